#!lua flags=allow-oom
-- Count a batch of entries in the same step that acknowledges them.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] quarantine
-- KEYS[4…] the sets of devices seen, one per tally in the order of the tallies
-- ARGV     group, incarnation that `open` told of, consumer, real time in ms at which the stream
--          expires, the same for the records, and MessagePack of
--          { ids, tallies: {hour, count, sum, min, max, devices}, rejects: {id, reason, fields},
--          and the traceparent of whoever counts it, if there is one };
--          `ids` holds every entry of the batch in order, rejects included; sums are decimal text
-- Reply    {1, readings that were late}; {0, ids of the batch that are still pending}, and nothing was
--          done; or {-1} if the consumer has entries pending that are not of the batch
-- Keeps    an entry is counted or quarantined once, by the commit that acknowledges it, whoever holds
--          it. When the consumer has as many entries pending as the batch holds, these are they: a
--          name reads no second batch before this one is committed. Else each entry is looked up, and
--          if one is no longer pending, nothing is done, and the caller folds anew those that are.
--          What was read through a group, or counted beside records, that are no longer those of the
--          partition is not counted: NOGROUP sends the caller to open it again.
--          Runs under allow-oom: a full Redis refuses readings, and goes on counting those it has
need(#KEYS >= 3 and #ARGV == 6, 'commit takes 3 keys or more and 6 arguments')
for i = 4, 5 do need(is_whole(ARGV[i]), 'the times must be whole numbers') end
-- Further ones are quarantined without their fields, which stand in the stream as long as it lives: a
-- flood of bad readings takes less room there than here.
local KEPT_WHOLE = 10000
local stream, hours, quarantine = KEYS[1], KEYS[2], KEYS[3]
local group, incarnation, consumer = ARGV[1], ARGV[2], ARGV[3]
local stream_expires, records_expire = ARGV[4], ARGV[5]
local batch = cmsgpack.unpack(ARGV[6])
need(type(batch) == 'table', 'the batch must be ids, tallies, rejects')
local ids, tallies, rejects, trace = batch[1], batch[2], batch[3], batch[4]
need(is_flat(ids) and #ids > 0 and type(tallies) == 'table' and type(rejects) == 'table',
  'the batch must be ids, tallies, rejects')
need(#tallies == #KEYS - 3, 'each tally must have its set of devices')
local folded = #rejects
for _, tally in ipairs(tallies) do
  need(type(tally) == 'table' and is_count(tally[2]) and is_sum(tally[3])
    and type(tally[1]) == 'number' and tally[1] >= 0 and tally[1] <= 23 and tally[1] % 1 == 0
    and type(tally[4]) == 'number' and type(tally[5]) == 'number' and is_flat(tally[6]),
    'a tally must be hour, count, sum, min, max, devices')
  folded = folded + tally[2]
end
need(folded == #ids, 'every entry must be in one tally or among the rejects')
for _, reject in ipairs(rejects) do
  need(is_flat(reject) and #reject == 3, 'a reject must be id, reason, fields')
end
expect(stream, 'stream')
expect(hours, 'hash')
expect(quarantine, 'stream')

if redis.call('HGET', hours, 'incarnation') ~= incarnation then
  return redis.error_reply('NOGROUP ' .. stream .. ' has been opened anew')
end
local held = 0
for _, entry in ipairs(redis.call('XPENDING', stream, group)[4] or {}) do
  if entry[1] == consumer then held = tonumber(entry[2]) end
end
if held ~= #ids then
  -- What others hold between the first and the last is looked at, too, up to a limit: what lies
  -- beyond it is left for the next claim.
  local holder = {}
  for _, entry in ipairs(redis.call('XPENDING', stream, group, ids[1], ids[#ids], 10000)) do
    holder[entry[1]] = entry[2]
  end
  local pending, own = {}, 0
  for _, id in ipairs(ids) do
    if holder[id] then pending[#pending + 1] = id end
    if holder[id] == consumer then own = own + 1 end
  end
  if held > own then return { -1 } end
  if #pending < #ids then return { 0, pending } end
end

local records = {}
for i, tally in ipairs(tallies) do
  expect(KEYS[3 + i], 'set')
  local h = string.format('%02d:', tally[1])
  local record = redis.call('HMGET', hours, h .. 'sealed', h .. 'min', h .. 'max', h .. 'count',
    h .. 'sum', h .. 'late', h .. 'late_sum', h .. 'late_min', h .. 'late_max')
  for each = 2, 9 do need(not record[each] or is_sum(record[each]), 'hour records must be numbers') end
  records[i] = record
end

if redis.call('XACK', stream, group, unpack(ids)) ~= #ids then
  -- Somebody acknowledged entries of this batch and pushed others upon this consumer; which ones were
  -- counted by whom cannot be told any more. The raw readings can: without its group the partition is
  -- counted again from its first entry.
  redis.call('XGROUP', 'DESTROY', stream, group)
  return redis.error_reply('NOGROUP entries of ' .. stream .. ' were acknowledged by somebody else')
end

local function widen(min_field, max_field, min, max, tally)
  if not min or tally[4] < tonumber(min) then redis.call('HSET', hours, min_field, tally[4]) end
  if not max or tally[5] > tonumber(max) then redis.call('HSET', hours, max_field, tally[5]) end
end

local late = 0
for i, tally in ipairs(tallies) do
  local h = string.format('%02d:', tally[1])
  local sealed, min, max = unpack(records[i], 1, 3)
  if sealed then
    redis.call('HINCRBY', hours, h .. 'late', tally[2])
    redis.call('HINCRBY', hours, h .. 'late_sum', tally[3])
    widen(h .. 'late_min', h .. 'late_max', records[i][8], records[i][9], tally)
    late = late + tally[2]
  else
    redis.call('HINCRBY', hours, h .. 'count', tally[2])
    redis.call('HINCRBY', hours, h .. 'sum', tally[3])
    widen(h .. 'min', h .. 'max', min, max, tally)
    if trace then redis.call('HSET', hours, h .. 'trace', trace) end
    if #tally[6] > 0 then
      redis.call('SADD', KEYS[3 + i], unpack(tally[6]))
      keep_until(KEYS[3 + i], records_expire)
    end
  end
end

if #rejects > 0 then
  local room = KEPT_WHOLE - redis.call('XLEN', quarantine)
  for i, reject in ipairs(rejects) do
    redis.call('XADD', quarantine, '*', 'id', reject[1], 'reason', reject[2],
      'fields', i <= room and reject[3] or '')
  end
  keep_until(quarantine, records_expire)
end
keep_until(hours, records_expire)
-- GT alone: the stream has had a TTL since it was opened, and a time that is past must not delete it.
redis.call('PEXPIREAT', stream, stream_expires, 'GT')
return { 1, late }
