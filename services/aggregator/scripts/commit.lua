#!lua flags=allow-oom
-- Count a batch of entries in the same step that acknowledges them.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] quarantine
-- KEYS[4…] the devices seen, a hash of block -> bits for each partial aggregate, in the order of the partial aggregates
-- ARGV     group, incarnation from the reply of `open`, consumer, how many further entries of the same
--          delivery the consumer has not committed yet, real time in ms at which the stream
--          expires, the same for the records, and MessagePack of { ids, partial aggregates, rejects }: `ids`
--          holds every entry of the batch in order, rejects included; the others are as in partials.lua;
--          and the traceparent of the process that counts it, if there is one
-- Reply    {1, readings that were late}; {0, ids of the batch that are still pending}, and nothing was
--          done; or {-1} if the consumer has entries pending that are not of the batch
-- Keeps    an entry is counted or quarantined once, by the commit that acknowledges it, whichever consumer owns
--          it. When the consumer has as many entries pending as the batch holds, and that many further
--          ones, these are they: a name reads no more before all of them are committed. Else each entry is looked up, and
--          if one is no longer pending, nothing is done, and the caller aggregates those that are again.
--          What was read through a group, or counted beside records, that are no longer those of the
--          partition is not counted: NOGROUP sends the caller to open it again.
--          Runs under allow-oom: a full Redis refuses readings, and goes on counting those it has
need(#KEYS >= 3 and #ARGV == 7, 'commit takes 3 keys or more and 7 arguments')
for i = 4, 6 do need(is_whole(ARGV[i]), 'entries and times must be whole numbers') end
local stream, hours, quarantine = KEYS[1], KEYS[2], KEYS[3]
local group, incarnation, consumer = ARGV[1], ARGV[2], ARGV[3]
local further, stream_expires, records_expire = tonumber(ARGV[4]), ARGV[5], ARGV[6]
local batch = unpacked(ARGV[7])
local ids, partials, rejects, trace = batch[1], batch[2], batch[3], batch[4]
need(is_flat(ids) and #ids > 0 and #ids <= 7000, 'the batch must be of 1 to 7,000 ids')
for i = 2, #ids do need(ids[i] ~= ids[i - 1], 'each id must be there once') end
need(not trace or type(trace) == 'string', 'the traceparent must be text')
need_partials(partials, rejects)
expect(stream, 'stream')
expect(hours, 'hash')
expect(quarantine, 'stream')
if #rejects > 0 then expect_room(quarantine) end

local current, opened, acknowledged =
  unpack(redis.call('HMGET', hours, 'incarnation', 'opened', 'acknowledged_entries'))
need_number(acknowledged, hours, 'acknowledged_entries')
if current ~= incarnation then
  return redis.error_reply('NOGROUP ' .. stream .. ' has been opened again')
end
local held = 0
for _, entry in ipairs(redis.call('XPENDING', stream, group)[4] or {}) do
  if entry[1] == consumer then held = tonumber(entry[2]) end
end
if held ~= #ids + further then
  -- What others hold between the first and the last is looked at, too, up to a limit: what lies
  -- beyond it is left for the next claim.
  local holder = {}
  for _, entry in ipairs(redis.call('XPENDING', stream, group, ids[1], ids[#ids], 10000)) do
    holder[entry[1]] = entry[2]
  end
  local gone, own = 0, 0
  for i = 1, #ids do
    local by = holder[ids[i]]
    if by then
      if by == consumer then own = own + 1 end
      holder[ids[i]] = false
    else
      gone = gone + 1
    end
  end
  if held > own + further then return { -1 } end
  if gone > 0 then
    local pending, seen = {}, {}
    for _, id in ipairs(ids) do
      need(not seen[id], 'each id must be there once')
      seen[id] = true
      if holder[id] ~= nil then pending[#pending + 1] = id end
    end
    return { 0, pending }
  end
end

local records = records_of(hours, partials)

if redis.call('XACK', stream, group, unpack(ids)) ~= #ids then
  -- Somebody acknowledged entries of this batch and pushed others upon this consumer; which ones were
  -- which process counted them is unknown. The raw readings are known: without its group the partition is
  -- counted again from its first entry.
  redis.call('XGROUP', 'DESTROY', stream, group)
  return redis.error_reply('NOGROUP entries of ' .. stream .. ' were acknowledged by another program')
end

local late, readings = count_all(hours, quarantine, partials, records, rejects, records_expire, trace)
-- The stream was empty when it was opened: this is how open.lua knows it again.
if opened == '0-0' then redis.call('HSET', hours, 'opened', ids[1]) end
-- The lag in readings is computed from this.
redis.call('HINCRBY', hours, 'acknowledged', readings)
-- Entries removed before they were counted are computed from this. A partition that was opened
-- without the number has none: what was acknowledged before is not known.
if acknowledged then redis.call('HINCRBY', hours, 'acknowledged_entries', #ids) end
-- GT alone: the stream has had a TTL since it was opened, and a time that is past must not delete it.
redis.call('PEXPIREAT', stream, stream_expires, 'GT')
return { 1, late }
