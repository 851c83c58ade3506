#!lua flags=allow-oom
-- Put one hour's average on the averages stream, once, and in order.
--
-- KEYS[1]  averages stream
-- KEYS[2]  frontier: start of the last published hour, ms
-- KEYS[3]  sorted set of what was published: "hour:count:sum" by hour
-- KEYS[4]  sorted set of revisions: an hour sealed anew with another result, "hour:count:sum" by hour
-- KEYS[5]  sorted set of hours that got their first reading after a later hour was published
-- ARGV     start of the hour in ms, count, sum, entries kept on the stream, members kept in each set,
--          then the entry's fields and values
-- Reply    'published'; 'known' (it was, with this result); 'revised' or 'too late' when that is
--          noted for the first time, 'known' when it had been
-- Keeps    the frontier and the stream move in one step, and the frontier only forward. What is
--          published is known here alone, so a failover takes both back together
local averages, frontier, published, revisions, too_late = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local hour, count, sum = ARGV[1], ARGV[2], ARGV[3]
local kept, remembered = ARGV[4], tonumber(ARGV[5])
local member = hour .. ':' .. count .. ':' .. sum

local function note(set)
  if redis.call('ZADD', set, 'NX', hour, member) == 0 then return false end
  redis.call('ZREMRANGEBYRANK', set, 0, -remembered - 1)
  return true
end

local last = redis.call('GET', frontier)
if not last or tonumber(hour) > tonumber(last) then
  redis.call('XADD', averages, 'MAXLEN', '=', kept, hour .. '-0', unpack(ARGV, 6))
  redis.call('SET', frontier, hour)
  note(published)
  return 'published'
end
local first = redis.call('ZRANGEBYSCORE', published, hour, hour)[1]
if first == member then return 'known' end
if first then return note(revisions) and 'revised' or 'known' end
return note(too_late) and 'too late' or 'known'
