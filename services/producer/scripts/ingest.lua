#!lua
-- Take one batch of readings into a partition, once.
--
-- KEYS[1]  the partition's stream
-- KEYS[2]  hash: producer -> 'SEQUENCE ACKNOWLEDGED STORED RECEIVED': the last sequence number taken,
--          the readings acknowledged to the producer, that batch's included, how many of them are here,
--          and the shard's time in ms when it was taken; ':entries' and ':readings', what all producers
--          have here; and ':called' and ':resumed', as in calls.lua
-- KEYS[3]  sorted set: producer -> its watermark, in ms since the partition's start: every reading of
--          this producer before it has been taken here
-- KEYS[4]  hash: block -> bits, one for each device and tick of which a reading was taken, of producers
--          whose sources repeat readings; see producer/identities.py
-- ARGV     producer, sequence number, the one that must have been taken before it (0 for any),
--          readings of this partition that are, or will be, acknowledged to the producer before it, real
--          time in ms at which the stream expires, the same for hash and set, readings in the batch, the
--          watermark that it moves the producer to, MessagePack of { device, day_ms, temp_f repeated;
--          packed entries, each its fields and values in turn, the array of temperatures last }, real
--          time in ms at which the bits expire, MessagePack of the batch's bits as { block, first byte,
--          bits, those of them that the producer knows to be set, whose readings it left out; repeated }
--          or '' if it does not deduplicate, and the traceparent of the sender, which the first entry
--          carries, if there is one. A batch without readings has a watermark alone
-- Reply    readings taken; 0 if this sequence number was taken before; -1 if it would have expired;
--          -2 if the one before it is missing. If other bits are set than the producer knows, nothing is
--          taken, and the reply is an array: of each block the batch's bits that are set, or nil for a
--          block that is not there and has no room
-- Keeps    a sequence number is taken once, and overtakes none that was refused on the same
--          connection; the expiry is extended and never shortened; a reading that is past its expiry
--          is refused, because EXPIREAT in the past deletes the whole day. The watermark moves with
--          the batch: no hour is sealed that it says there are readings for.
--          Bits are set only with the readings that they stand for, and readings are left out only
--          while their bits are set. Stream, hashes and bits share a shard: when a failover loses its
--          newest writes, all go back, and what was acknowledged can be compared with what is here
local BLOCK_BYTES = 1000
-- No more blocks than this in a partition: 145 MB, or 10,000 devices with a reading every second.
local MOST_BLOCKS = 131072
-- Fields of one call of HMGET or HSET: the stack of a script is bounded.
local AT_ONCE = 1000

-- The bytes of two strings combined, one by one, for as long as the first one lasts.
local function combined(operation, a, b)
  local bytes = {}
  for i = 1, #a do bytes[i] = string.char(operation(string.byte(a, i), string.byte(b, i))) end
  return table.concat(bytes)
end

-- The bits of `mask` that a block has, from byte `at` on; '' if it has none of them.
local function common(block, at, mask)
  local here = string.sub(block, at + 1, at + #mask)
  if not string.find(here, '[^%z]') then return '' end
  local both = combined(bit.band, here, mask)
  if not string.find(both, '[^%z]') then return '' end
  return both .. string.rep('\0', #mask - #both)
end

-- A block with the bits of `mask` set from byte `at` on.
local function with(block, at, mask)
  local here = string.sub(block, at + 1, at + #mask)
  local merged = mask
  if string.find(here, '[^%z]') then merged = combined(bit.bor, here, mask) .. string.sub(mask, #here + 1) end
  local before = string.sub(block, 1, at)
  return before .. string.rep('\0', at - #before) .. merged .. string.sub(block, at + #mask + 1)
end

need(#KEYS == 4 and (#ARGV == 11 or #ARGV == 12), 'ingest takes 4 keys and 11 or 12 arguments')
need(is_whole(ARGV[10]), 'the expiry of the bits must be a whole number')
for i = 2, 8 do need(is_whole(ARGV[i]), 'sequences, readings and times must be whole numbers') end
need(string.find(ARGV[1], '^[^:]'), 'the producer must have a name that begins with no colon')
local stream, producers, watermarks, identities = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local producer, sequence, after = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local acknowledged, stream_expires, producers_expire = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local taken, watermark, batch, trace = tonumber(ARGV[7]), ARGV[8], unpacked(ARGV[9]), ARGV[12]
local bits = ARGV[11] == '' and {} or unpacked(ARGV[11])
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
need(is_flat(bits) and #bits % 4 == 0, 'the bits must be block, first byte, bits, known bits repeated')
for i = 1, #bits, 4 do
  local at, mask, known = bits[i + 1], bits[i + 2], bits[i + 3]
  need(type(at) == 'number' and at >= 0 and at % 1 == 0 and type(mask) == 'string' and #mask > 0
    and at + #mask <= BLOCK_BYTES, 'the bits must lie within their block')
  need(known == '' or type(known) == 'string' and #known == #mask, 'known bits must be as many as bits')
end
expect(stream, 'stream')
expect(producers, 'hash')
expect(watermarks, 'zset')
if #bits > 0 then expect(identities, 'hash') end

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

local blocks = {}
for i = 1, #bits, 4 * AT_ONCE do
  local fields = {}
  for j = i, math.min(#bits, i + 4 * AT_ONCE - 1), 4 do fields[#fields + 1] = bits[j] end
  for _, block in ipairs(redis.call('HMGET', identities, unpack(fields))) do blocks[#blocks + 1] = block end
end
local room = #bits > 0 and MOST_BLOCKS - redis.call('HLEN', identities)
local found, is_as_known = {}, true
for i, block in ipairs(blocks) do
  local at, mask, known = bits[4 * i - 2], bits[4 * i - 1], bits[4 * i]
  if not block then room = room - 1 end
  found[i] = (block or room >= 0) and common(block or '', at, mask)
  if found[i] ~= known then is_as_known = false end
end
if not is_as_known then return found end

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
local set = {}
for i, block in ipairs(blocks) do
  set[#set + 1] = bits[4 * i - 3]
  set[#set + 1] = with(block or '', bits[4 * i - 2], bits[4 * i - 1])
end
for i = 1, #set, 2 * AT_ONCE do
  redis.call('HSET', identities, unpack(set, i, math.min(#set, i + 2 * AT_ONCE - 1)))
end
if #set > 0 then keep_until(identities, ARGV[10]) end
redis.call('HSET', producers, producer,
  string.format('%s %.0f %.0f %.0f', ARGV[2], acknowledged + taken, stored + taken, now))
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
