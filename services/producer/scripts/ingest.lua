#!lua
-- Take one batch of readings into a partition, once.
--
-- KEYS[1]  the partition's stream
-- KEYS[2]  hash: producer -> 'SEQUENCE TOLD STORED': the last sequence number taken, the readings that
--          the producer was told were taken, that batch's included, and how many of them are here
-- ARGV     producer, sequence number, the one that must have been taken before it (0 for any),
--          readings of this partition that the producer was, or will have been, told were taken
--          before, real time in ms at which the stream expires, the same for the hash,
--          MessagePack array of device, ts, temp_f repeated,
--          and the traceparent of whoever sends it, which the first reading carries, if there is one
-- Reply    readings taken; 0 if this sequence number was taken before; -1 if it would have expired;
--          -2 if the one before it is missing
-- Keeps    a sequence number is taken once, and overtakes none that was refused on the same
--          connection; the expiry is extended and never shortened; a reading that is past its expiry
--          is refused, because EXPIREAT in the past deletes the whole day.
--          Stream and hash share a shard: when a failover loses its newest writes, both go back, and
--          what the producer was told stands against what is here
need(#KEYS == 2 and (#ARGV == 7 or #ARGV == 8), 'ingest takes 2 keys and 7 or 8 arguments')
for i = 2, 6 do need(is_whole(ARGV[i]), 'sequences, readings and times must be whole numbers') end
need(ARGV[1] ~= '', 'the producer must have a name')
local stream, producers = KEYS[1], KEYS[2]
local producer, sequence, after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local told, stream_expires, producers_expire = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local batch = cmsgpack.unpack(ARGV[7])
need(is_flat(batch) and #batch > 0 and #batch % 3 == 0, 'the readings must be device, ts, temp_f repeated')
expect(stream, 'stream')
expect(producers, 'hash')

local time = redis.call('TIME')
if tonumber(stream_expires) <= time[1] * 1000 + time[2] / 1000 then return -1 end
local before = redis.call('HGET', producers, producer)
local last, _, stored = string.match(before or '0 0 0', '^(%d+) (%d+) (%d+)$')
need(last, 'the producers hash must hold what this script put there')
if before and sequence <= tonumber(last) then
  -- Written again, unchanged: WAIT waits for what its own connection has written, and the try that
  -- was taken may have come over another one.
  redis.call('HSET', producers, producer, before)
  return 0
end
if after > tonumber(last) then return -2 end

local first = 1
if ARGV[8] then
  redis.call('XADD', stream, '*', 'device', batch[1], 'ts', batch[2], 'temp_f', batch[3],
    'traceparent', ARGV[8])
  first = 4
end
for i = first, #batch, 3 do
  redis.call('XADD', stream, '*', 'device', batch[i], 'ts', batch[i + 1], 'temp_f', batch[i + 2])
end
local taken = #batch / 3
redis.call('HSET', producers, producer, string.format('%s %.0f %.0f', ARGV[2], told + taken, stored + taken))
keep_until(stream, stream_expires)
keep_until(producers, producers_expire)
return taken
