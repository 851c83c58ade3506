#!lua
-- Take one batch of readings into a partition, once.
--
-- KEYS[1]  the partition's stream
-- KEYS[2]  hash: producer -> the last sequence number taken
-- ARGV     producer, sequence number, real time in ms at which the stream expires, the same for
--          the hash, MessagePack array of device, ts, temp_f repeated
-- Reply    readings taken; 0 if this sequence number was taken before; -1 if it would have expired
-- Keeps    a sequence number is taken once; the expiry is extended and never shortened; a reading
--          that is past its expiry is refused, because EXPIREAT in the past deletes the whole day
local stream, producers = KEYS[1], KEYS[2]
local producer, sequence = ARGV[1], tonumber(ARGV[2])
local stream_expires, producers_expire = ARGV[3], ARGV[4]

local time = redis.call('TIME')
if tonumber(stream_expires) <= time[1] * 1000 + time[2] / 1000 then return -1 end
local last = redis.call('HGET', producers, producer)
if last and sequence <= tonumber(last) then
  -- Written again, unchanged: WAIT waits for what its own connection has written, and the try that
  -- was taken may have come over another one.
  redis.call('HSET', producers, producer, last)
  return 0
end

local batch = cmsgpack.unpack(ARGV[5])
for i = 1, #batch, 3 do
  redis.call('XADD', stream, '*', 'device', batch[i], 'ts', batch[i + 1], 'temp_f', batch[i + 2])
end
redis.call('HSET', producers, producer, ARGV[2])

local function keep_until(key, at)
  if redis.call('PEXPIREAT', key, at, 'NX') == 0 then redis.call('PEXPIREAT', key, at, 'GT') end
end
keep_until(stream, stream_expires)
keep_until(producers, producers_expire)
return #batch / 3
