#!lua flags=allow-oom
-- Give a partition its consumer group, if the partition exists.
--
-- KEYS[1]  stream      KEYS[2] hour records      KEYS[3] quarantine
-- KEYS[4…] the sets of devices seen, one per hour from 0 to 23
-- ARGV     group, real time in ms at which the stream expires at the latest, the same for records
-- Reply    'absent', 'open' (the group was there), 'opened' (made now), 'recount' (made anew
--          because somebody destroyed it while its stream lived on)
-- Keeps    no key without TTL: the group is never made with MKSTREAM, and a stream that a foreign
--          writer left without TTL gets one. On a recount every reading is delivered again, so
--          open hours start from nothing; a sealed hour keeps its record, and its late count starts
--          at minus what it had counted, which the readings delivered again bring back to the truth
local stream, hours, quarantine = KEYS[1], KEYS[2], KEYS[3]
local group, stream_expires, records_expire = ARGV[1], ARGV[2], ARGV[3]

-- By text: a sum may outgrow the 53 bits of a number here. Redis takes no '-0' for an integer.
local function minus(integer)
  if integer == '0' then return integer end
  return integer:sub(1, 1) == '-' and integer:sub(2) or '-' .. integer
end

if redis.call('EXISTS', stream) == 0 then return 'absent' end
redis.call('PEXPIREAT', stream, stream_expires, 'NX')
redis.call('HLEN', hours)

local made = redis.pcall('XGROUP', 'CREATE', stream, group, '0')
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then return 'open' end
  return made
end

-- `opened` is the id of an entry the stream has held. If it, or an earlier one, is still there, or
-- has been deleted from this very stream, the group alone was lost. Otherwise the stream itself was
-- made anew, and what was counted from the old one stays counted.
local function is_this_streams(id)
  if id == '0-0' or #redis.call('XRANGE', stream, '-', id, 'COUNT', 1) > 0 then return true end
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'max-deleted-entry-id' then
      local deleted_ms, ms = string.match(info[i + 1], '^%d+'), string.match(id, '^%d+')
      return tonumber(deleted_ms) >= tonumber(ms)
    end
  end
end
local opened = redis.call('HGET', hours, 'opened')
local recount = opened and is_this_streams(opened)
for hour = 0, 23 do
  local h = string.format('%02d:', hour)
  if redis.call('HEXISTS', hours, h .. 'sealed') == 0 then
    redis.call('HDEL', hours, h .. 'barrier')
    if recount then
      redis.call('HDEL', hours, h .. 'count', h .. 'sum', h .. 'min', h .. 'max')
      redis.call('DEL', KEYS[4 + hour])
    end
  elseif recount then
    local count, sum = unpack(redis.call('HMGET', hours, h .. 'count', h .. 'sum'))
    redis.call('HSET', hours, h .. 'late', minus(count or '0'), h .. 'late_sum', minus(sum or '0'))
  end
end
if recount then redis.call('DEL', quarantine) end
local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
redis.call('HSET', hours, 'opened', first and first[1] or '0-0')
if redis.call('PEXPIREAT', hours, records_expire, 'NX') == 0 then
  redis.call('PEXPIREAT', hours, records_expire, 'GT')
end
return recount and 'recount' or 'opened'
