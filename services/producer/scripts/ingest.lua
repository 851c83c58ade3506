#!lua
-- Take one batch of readings into a partition, once.
--
-- KEYS[1]  the partition's stream
-- KEYS[2]  hash: producer -> 'SEQUENCE TOLD STORED': the last sequence number taken, the readings that
--          the producer was told were taken, that batch's included, and how many of them are here;
--          and ':entries' and ':readings', what all producers have here
-- ARGV     producer, sequence number, the one that must have been taken before it (0 for any),
--          readings of this partition that the producer was, or will have been, told were taken
--          before, real time in ms at which the stream expires, the same for the hash, readings in
--          the batch, MessagePack of { device, ts, temp_f repeated; packed entries, each its fields
--          and values in turn, the array of temperatures last }, and the traceparent of whoever sends
--          it, which the first entry carries, if there is one
-- Reply    readings taken; 0 if this sequence number was taken before; -1 if it would have expired;
--          -2 if the one before it is missing
-- Keeps    a sequence number is taken once, and overtakes none that was refused on the same
--          connection; the expiry is extended and never shortened; a reading that is past its expiry
--          is refused, because EXPIREAT in the past deletes the whole day.
--          Stream and hash share a shard: when a failover loses its newest writes, both go back, and
--          what the producer was told stands against what is here
need(#KEYS == 2 and (#ARGV == 8 or #ARGV == 9), 'ingest takes 2 keys and 8 or 9 arguments')
for i = 2, 7 do need(is_whole(ARGV[i]), 'sequences, readings and times must be whole numbers') end
need(string.find(ARGV[1], '^[^:]'), 'the producer must have a name that begins with no colon')
local stream, producers = KEYS[1], KEYS[2]
local producer, sequence, after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local told, stream_expires, producers_expire = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local taken, batch = tonumber(ARGV[7]), unpacked(ARGV[8])
need(after < sequence, 'a sequence number must come after another')
need(tonumber(stream_expires) <= tonumber(producers_expire), 'the hash must outlive the stream')
need(is_flat(batch[1]) and #batch[1] % 3 == 0, 'the readings must be device, ts, temp_f repeated')
local readings, packed = batch[1], batch[2]
need(type(packed) == 'table' and #readings + #packed > 0, 'the batch must hold something')
local plain = #readings / 3
local most = plain -- readings that there can be: a packed one has two bytes or more, if it is not missing
for _, entry in ipairs(packed) do
  need(is_flat(entry) and #entry > 0 and #entry <= 100 and #entry % 2 == 0, 'a packed entry must be pairs')
  most = most + #tostring(entry[#entry]) / 2
end
need(taken >= 1 and taken >= plain and taken <= most, 'the readings must be as many as the batch holds')
expect(stream, 'stream')
expect(producers, 'hash')

local time = redis.call('TIME')
if tonumber(stream_expires) <= time[1] * 1000 + time[2] / 1000 then return -1 end
local before = redis.call('HGET', producers, producer)
local last, _, stored = string.match(before or '0 0 0', '^(%d+) (%d+) (%d+)$')
need(last, 'the producers hash must hold what this script put there')
for _, tally in ipairs({ ':entries', ':readings' }) do
  need(is_sum(redis.call('HGET', producers, tally) or '0'), 'the producers hash must hold what this script put there')
end
if before and sequence <= tonumber(last) then
  -- Written again, unchanged: WAIT waits for what its own connection has written, and the try that
  -- was taken may have come over another one.
  redis.call('HSET', producers, producer, before)
  return 0
end
if after > tonumber(last) then return -2 end

local first = 1
if ARGV[9] and #readings > 0 then
  redis.call('XADD', stream, '*', 'device', readings[1], 'ts', readings[2], 'temp_f', readings[3],
    'traceparent', ARGV[9])
  first = 4
elseif ARGV[9] then
  packed[1][#packed[1] + 1] = 'traceparent'
  packed[1][#packed[1] + 1] = ARGV[9]
end
for i = first, #readings, 3 do
  redis.call('XADD', stream, '*', 'device', readings[i], 'ts', readings[i + 1], 'temp_f', readings[i + 2])
end
for _, entry in ipairs(packed) do redis.call('XADD', stream, '*', unpack(entry)) end
redis.call('HSET', producers, producer, string.format('%s %.0f %.0f', ARGV[2], told + taken, stored + taken))
redis.call('HINCRBY', producers, ':entries', plain + #packed)
redis.call('HINCRBY', producers, ':readings', taken)
keep_until(stream, stream_expires)
keep_until(producers, producers_expire)
return taken
