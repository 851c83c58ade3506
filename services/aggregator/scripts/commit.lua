#!lua flags=allow-oom
-- Count a batch of entries in the same step that acknowledges them.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] quarantine
-- KEYS[4…] the sets of devices seen, one per tally in the order of the tallies
-- ARGV     group, consumer, entries delivered to this consumer and not yet committed,
--          real time in ms at which the stream expires, the same for the records, and MessagePack of
--          { ids, tallies: {hour, count, sum, min, max, devices}, rejects: {id, reason, fields} };
--          `ids` holds every entry of the batch, rejects included; sums are decimal text
-- Reply    {1, readings that were late} or {0, ids of the batch still delivered to this consumer}
-- Keeps    an entry is counted or quarantined once, by the commit that acknowledges it. A consumer's
--          name belongs to one connection, so all it has pending was delivered over it; if there is
--          less of that than the caller holds, somebody claimed or acknowledged some of it: then
--          nothing is done, and the caller folds anew what is still its own.
--          Runs under allow-oom: a full Redis refuses readings, and goes on counting those it has
local stream, hours, quarantine = KEYS[1], KEYS[2], KEYS[3]
local group, consumer, held = ARGV[1], ARGV[2], tonumber(ARGV[3])
local stream_expires, records_expire = ARGV[4], ARGV[5]
local batch = cmsgpack.unpack(ARGV[6])
local ids, tallies, rejects = batch[1], batch[2], batch[3]

local pending = 0
for _, entry in ipairs(redis.call('XPENDING', stream, group)[4] or {}) do
  if entry[1] == consumer then pending = tonumber(entry[2]) end
end
if pending ~= held then
  local own = {}
  for i, entry in ipairs(redis.call('XPENDING', stream, group, ids[1], ids[#ids], held, consumer)) do
    own[i] = entry[1]
  end
  return {0, own}
end

local function keep_until(key, at)
  if redis.call('PEXPIREAT', key, at, 'NX') == 0 then redis.call('PEXPIREAT', key, at, 'GT') end
end

-- A key of another type fails here, before anything has changed.
redis.call('HLEN', hours)
redis.call('XLEN', quarantine)
for i = 1, #tallies do redis.call('SCARD', KEYS[3 + i]) end

local acknowledged = redis.call('XACK', stream, group, unpack(ids))
if acknowledged ~= #ids then
  return redis.error_reply('MISCOUNT ' .. acknowledged .. ' of ' .. #ids .. ' entries were pending')
end

local late = 0
for i, tally in ipairs(tallies) do
  local h = string.format('%02d:', tally[1])
  if redis.call('HEXISTS', hours, h .. 'sealed') == 1 then
    redis.call('HINCRBY', hours, h .. 'late', tally[2])
    redis.call('HINCRBY', hours, h .. 'late_sum', tally[3])
    late = late + tally[2]
  else
    redis.call('HINCRBY', hours, h .. 'count', tally[2])
    redis.call('HINCRBY', hours, h .. 'sum', tally[3])
    local min, max = unpack(redis.call('HMGET', hours, h .. 'min', h .. 'max'))
    if not min or tally[4] < tonumber(min) then redis.call('HSET', hours, h .. 'min', tally[4]) end
    if not max or tally[5] > tonumber(max) then redis.call('HSET', hours, h .. 'max', tally[5]) end
    if #tally[6] > 0 then
      redis.call('SADD', KEYS[3 + i], unpack(tally[6]))
      keep_until(KEYS[3 + i], records_expire)
    end
  end
end

for _, reject in ipairs(rejects) do
  redis.call('XADD', quarantine, '*', 'id', reject[1], 'reason', reject[2], 'fields', reject[3])
end
if #rejects > 0 then
  keep_until(quarantine, records_expire)
end
keep_until(hours, records_expire)
-- GT alone: the stream has had a TTL since it was opened, and a time that is past must not delete it.
redis.call('PEXPIREAT', stream, stream_expires, 'GT')
return {1, late}
