#!lua flags=allow-oom
-- Put one hour's average on the averages stream, once, and in order.
--
-- KEYS[1]  averages stream
-- KEYS[2]  frontier: start of the last published hour, ms
-- KEYS[3]  sorted set of what was published: "hour:count:sum" by hour
-- KEYS[4]  sorted set of revisions: an hour sealed anew with another result, "hour:count:sum" by hour
-- KEYS[5]  sorted set of hours that got their first reading after a later hour was published
-- ARGV     start of the hour in ms, count, sum, the frontier that this hour is known to come next after
--          (empty if there was none), entries kept on the stream, members kept in each set, real time in
--          ms, and when the hour is over, then the entry's fields and values
-- Reply    how far this shard's clock is ahead of real time, in ms, if it deviates too far for anything
--          to be done; 'early' if by this clock the hour is not over; 'published'; 'known' (it was, with this result, or it is older than anything remembered);
--          'moved' (the frontier is another one: nothing was done); 'revised' or 'too late' when that
--          is noted for the first time, 'known' when it had been
-- Keeps    the frontier and the stream move in one step, and the frontier only forward, from where the
--          caller saw it: after a failover that took it back no hour is passed over. What is
--          published is known here alone, so a failover takes both back together.
--          A frontier whose key is lost alone is restored from the set of published hours, or from the
--          stream. An entry that no publisher wrote stands in the way until it is deleted; the stream's
--          memory of its id does not
need(#KEYS == 5 and #ARGV >= 10 and #ARGV % 2 == 0, 'publish takes 5 keys, 8 arguments and pairs')
for _, i in ipairs({ 1, 2, 5, 6, 7, 8 }) do need(is_whole(ARGV[i]), 'hour, count, sizes and times must be whole') end
need(tonumber(ARGV[1]) % 3600000 == 0, 'an hour must start on the hour')
need(tonumber(ARGV[2]) > 0, 'an hour without readings is not published')
need(is_sum(ARGV[3]), 'the sum must be a whole number')
need(ARGV[4] == '' or is_whole(ARGV[4]), 'the frontier must be a time or empty')
need(tonumber(ARGV[5]) > 0 and tonumber(ARGV[6]) > 0, 'something must be kept')
local averages, frontier, published, revisions, too_late = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local hour, count, sum, seen = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local kept, remembered, real, over = ARGV[5], tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local member = hour .. ':' .. count .. ':' .. sum
local is_a_stream = expect(averages, 'stream')
expect(frontier, 'string')
for i = 3, 5 do expect(KEYS[i], 'zset') end

local time = time_ms()
local ahead = deviation(time, real)
if ahead then return ahead end
if time < over then return 'early' end

local function note(set)
  if redis.call('ZADD', set, 'NX', hour, member) == 0 then return false end
  redis.call('ZREMRANGEBYRANK', set, 0, -remembered - 1)
  return true
end

local function last_known()
  local newest = redis.call('ZRANGE', published, -1, -1, 'WITHSCORES')[2]
  if newest then return newest end
  for _, entry in ipairs(redis.call('XREVRANGE', averages, '+', '-', 'COUNT', kept)) do
    local start = string.match(entry[1], '^(%d+)%-0$')
    if start and tonumber(start) % 3600000 == 0 then return start end
  end
end

local function is_after(id, other)
  local ms, sequence = string.match(id, '^(%d+)%-(%d+)$')
  local other_ms, other_sequence = string.match(other, '^(%d+)%-(%d+)$')
  if ms ~= other_ms then return tonumber(ms) > tonumber(other_ms) end
  return tonumber(sequence) > tonumber(other_sequence)
end

-- XDEL leaves the deleted id as the stream's last one, which XADD must exceed, and as the last one that
-- was delivered to its groups. Back to the newest entry that is there.
local function forget_deleted()
  local newest = redis.call('XREVRANGE', averages, '+', '-', 'COUNT', 1)[1]
  local top = newest and newest[1] or '0-0'
  need(not is_after(top, hour .. '-0') and top ~= hour .. '-0', averages .. ' has the entry ' .. top
    .. ', which no publisher wrote and which is in the way: XDEL ' .. averages .. ' ' .. top)
  local info = redis.call('XINFO', 'STREAM', averages)
  if not is_after(field(info, 'last-generated-id'), top) then return end
  local added = field(info, 'entries-added')
  -- 0-0 would leave the last deleted id as it is, and with it every lag unknown.
  redis.call('XSETID', averages, top, 'ENTRIESADDED', added, 'MAXDELETEDID', newest and '0-1' or '0-0')
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', averages)) do
    local delivered = field(group, 'last-delivered-id')
    if is_after(delivered, top) then delivered = top end
    local waiting = #redis.call('XRANGE', averages, '(' .. delivered, '+')
    redis.call('XGROUP', 'SETID', averages, field(group, 'name'), delivered, 'ENTRIESREAD', added - waiting)
  end
end

local last = redis.call('GET', frontier)
need(not last or is_whole(last), frontier .. ' holds no time: rename or delete it')
if not last then
  last = last_known()
  if last then
    redis.call('SET', frontier, last)
    return 'moved'
  end
  last = ''
end
if last == '' or tonumber(hour) > tonumber(last) then
  if last ~= seen then return 'moved' end
  if is_a_stream then forget_deleted() end
  redis.call('XADD', averages, 'MAXLEN', '=', kept, hour .. '-0', unpack(ARGV, 9))
  redis.call('SET', frontier, hour)
  note(published)
  return 'published'
end
local first = redis.call('ZRANGEBYSCORE', published, hour, hour)[1]
if first == member then return 'known' end
if first then return note(revisions) and 'revised' or 'known' end
local function of_those_published(at)
  return redis.call('ZRANGEBYSCORE', published, '-inf', '+inf', 'WITHSCORES', 'LIMIT', at, 1)[2]
end
local is_full = of_those_published(remembered - 1)
if is_full and tonumber(hour) < tonumber(of_those_published(0)) then return 'known' end
-- The set may be lost alone, too.
if #redis.call('XRANGE', averages, hour .. '-0', hour .. '-0') > 0 then return 'known' end
return note(too_late) and 'too late' or 'known'
