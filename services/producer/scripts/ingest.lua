#!lua
-- Take one batch of readings into a partition, once.
--
-- KEYS[1]  the partition's stream
-- KEYS[2]  hash: producer -> 'SEQUENCE TOLD STORED RECEIVED': the last sequence number taken, the readings
--          that the producer was told were taken, that batch's included, how many of them are here, and
--          the shard's time in ms when it was taken; ':entries' and ':readings', what all producers
--          have here; and ':called' and ':resumed', as in calls.lua
-- KEYS[3]  sorted set: producer -> its watermark, in ms since the partition's start: every reading of
--          this producer before it has been taken here
-- ARGV     producer, sequence number, the one that must have been taken before it (0 for any),
--          readings of this partition that the producer was, or will have been, told were taken
--          before, real time in ms at which the stream expires, the same for hash and set, readings in
--          the batch, the watermark that it moves the producer to, MessagePack of { device, day_ms,
--          temp_f repeated; packed entries, each its fields and values in turn, the array of temperatures
--          last }, and the traceparent of whoever sends it, which the first entry carries, if there is
--          one. A batch without readings has a watermark alone
-- Reply    readings taken; 0 if this sequence number was taken before; -1 if it would have expired;
--          -2 if the one before it is missing
-- Keeps    a sequence number is taken once, and overtakes none that was refused on the same
--          connection; the expiry is extended and never shortened; a reading that is past its expiry
--          is refused, because EXPIREAT in the past deletes the whole day. The watermark moves with
--          the batch: no hour is sealed that it says there are readings for.
--          Stream and hash share a shard: when a failover loses its newest writes, both go back, and
--          what the producer was told stands against what is here
need(#KEYS == 3 and (#ARGV == 9 or #ARGV == 10), 'ingest takes 3 keys and 9 or 10 arguments')
for i = 2, 8 do need(is_whole(ARGV[i]), 'sequences, readings and times must be whole numbers') end
need(string.find(ARGV[1], '^[^:]'), 'the producer must have a name that begins with no colon')
local stream, producers, watermarks = KEYS[1], KEYS[2], KEYS[3]
local producer, sequence, after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local told, stream_expires, producers_expire = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local taken, watermark, batch, trace = tonumber(ARGV[7]), ARGV[8], unpacked(ARGV[9]), ARGV[10]
need(after < sequence, 'a sequence number must come after another')
need(tonumber(stream_expires) <= tonumber(producers_expire), 'the hash must outlive the stream')
need(is_flat(batch[1]) and #batch[1] % 3 == 0, 'the readings must be device, day_ms, temp_f repeated')
local readings, packed = batch[1], batch[2]
need(type(packed) == 'table', 'the batch must have packed entries, or none')
local plain = #readings / 3
local most = plain -- readings that there can be: a packed one has two bytes or more, if it is not missing
for _, entry in ipairs(packed) do
  need(is_flat(entry) and #entry > 0 and #entry <= 100 and #entry % 2 == 0, 'a packed entry must be pairs')
  most = most + #tostring(entry[#entry]) / 2
end
need(taken >= math.min(most, 1) and taken >= plain and taken <= most, 'the readings must be as many as the batch holds')
expect(stream, 'stream')
expect(producers, 'hash')
expect(watermarks, 'zset')

local now = time_ms()
if tonumber(stream_expires) <= now then return -1 end
local before, entries_before, readings_before, called, resumed =
  unpack(redis.call('HMGET', producers, producer, ':entries', ':readings', ':called', ':resumed'))
local last, _, stored = string.match(before or '0 0 0', '^(%d+) (%d+) (%d+) ?(%d*)$')
need(last and is_sum(entries_before or '0') and is_sum(readings_before or '0'),
  'the producers hash must hold what this script put there')
if before and sequence <= tonumber(last) then
  -- Written again, unchanged: WAIT waits for what its own connection has written, and the try that
  -- was taken may have come over another one.
  redis.call('HSET', producers, producer, before)
  return 0
end
if after > tonumber(last) then return -2 end

local first = 1
if trace and #readings > 0 then
  redis.call('XADD', stream, '*', 'device', readings[1], 'day_ms', readings[2], 'temp_f', readings[3],
    'traceparent', trace)
  first = 4
elseif trace and #packed > 0 then
  packed[1][#packed[1] + 1] = 'traceparent'
  packed[1][#packed[1] + 1] = trace
end
for i = first, #readings, 3 do
  redis.call('XADD', stream, '*', 'device', readings[i], 'day_ms', readings[i + 1], 'temp_f', readings[i + 2])
end
for _, entry in ipairs(packed) do redis.call('XADD', stream, '*', unpack(entry)) end
redis.call('HSET', producers, producer,
  string.format('%s %.0f %.0f %.0f', ARGV[2], told + taken, stored + taken, now))
redis.call('ZADD', watermarks, watermark, producer)
note_call(producers, called, resumed, now)
if plain + #packed > 0 then
  redis.call('HINCRBY', producers, ':entries', plain + #packed)
  redis.call('HINCRBY', producers, ':readings', taken)
  keep_until(stream, stream_expires)
end
keep_until(producers, producers_expire)
keep_until(watermarks, producers_expire)
return taken
