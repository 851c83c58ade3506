#!lua flags=allow-oom
-- Put one hour's average on the averages stream, once, and in order.
--
-- KEYS[1]  averages stream
-- KEYS[2]  published-through hour: start of the last published hour, ms
-- KEYS[3]  sorted set of what was published: "hour:count:sum" by hour
-- KEYS[4]  sorted set of revisions: an hour sealed again with another result, "hour:count:sum" by hour
-- KEYS[5]  sorted set of hours that got their first reading after a later hour was published
-- ARGV     start of the hour in ms, count, sum, the published-through hour that this hour is known to come next after
--          (empty if there was none), entries kept on the stream, members kept in each set, real time in
--          ms, and when the hour is over, then the entry's fields and values
-- Reply    how far this shard's clock is ahead of real time, in ms, if it deviates too far for anything
--          to be done; 'early' if by this clock the hour is not over; 'published'; 'known' (it was, with this result, or it is older than anything remembered);
--          'moved' (the published-through hour is another one: nothing was done); 'revised' or 'too late' when that
--          is noted for the first time, 'known' when it had been
-- Keeps    the published-through hour and the stream move in one step, and the published-through hour only forward, from where the
--          caller saw it: after a failover that took it back no hour is passed over. What is
--          published is known here alone, so a failover takes both back together.
--          A published-through hour whose key is lost alone is restored from the set of published hours, or from the
--          stream. An entry that no publisher wrote stands in the way until it is deleted; the stream's
--          memory of its id does not
need(#KEYS == 5 and #ARGV >= 10 and #ARGV % 2 == 0, 'publish takes 5 keys, 8 arguments and pairs')
for _, i in ipairs({ 1, 2, 5, 6, 7, 8 }) do need(is_whole(ARGV[i]), 'hour, count, sizes and times must be whole') end
need(tonumber(ARGV[1]) % 3600000 == 0, 'an hour must start on the hour')
need(tonumber(ARGV[2]) > 0, 'an hour without readings is not published')
need(is_sum(ARGV[3]), 'the sum must be a whole number')
need(ARGV[4] == '' or is_whole(ARGV[4]), 'the published-through hour must be a time or empty')
need(tonumber(ARGV[5]) > 0 and tonumber(ARGV[6]) > 0, 'something must be kept')
local averages, published_through, published, revisions, too_late = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local hour, count, sum, seen = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local kept, remembered, real, over = ARGV[5], tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local member = hour .. ':' .. count .. ':' .. sum
local is_a_stream = expect(averages, 'stream')
expect(published_through, 'string')
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

-- What a group has to keep when its stream is made again: where it is, and each pending entry with its
-- consumer, idle time and number of deliveries.
local function state_of(group, entries, top)
  local name, delivered = field(group, 'name'), field(group, 'last-delivered-id')
  if is_after(delivered, top) then delivered = top end
  local consumers, pending = {}, {}
  for i, each in ipairs(redis.call('XINFO', 'CONSUMERS', averages, name)) do
    consumers[i] = field(each, 'name')
  end
  for _, entry in ipairs(entries) do
    pending[#pending + 1] = redis.call('XPENDING', averages, name, entry[1], entry[1], 1)[1]
  end
  local waiting = #redis.call('XRANGE', averages, '(' .. delivered, '+', 'COUNT', kept)
  return { name = name, delivered = delivered, consumers = consumers, pending = pending, waiting = waiting }
end

-- XDEL leaves the deleted id as the stream's last one, which XADD must exceed, and as the last one that
-- was delivered to its groups. XSETID goes back behind a deleted id in Redis 7.0 and in no newer server.
-- So the stream is made again of the entries that are there, with its groups.
local function forget_deleted()
  local newest = redis.call('XREVRANGE', averages, '+', '-', 'COUNT', 1)[1]
  local top = newest and newest[1] or '0-0'
  need(not is_after(top, hour .. '-0') and top ~= hour .. '-0', averages .. ' has the entry ' .. top
    .. ', which no publisher wrote and which is in the way: XDEL ' .. averages .. ' ' .. top)
  local info = redis.call('XINFO', 'STREAM', averages)
  if not is_after(field(info, 'last-generated-id'), top) then return end
  local entries = redis.call('XREVRANGE', averages, '+', '-', 'COUNT', kept)
  for _, entry in ipairs(entries) do -- from here on nothing may be refused
    need(#entry[2] <= 1000, averages .. ' has the entry ' .. entry[1]
      .. ', which no publisher wrote and which has too many fields: XDEL ' .. averages .. ' ' .. entry[1])
  end
  local added, groups = field(info, 'entries-added'), {}
  for i, group in ipairs(redis.call('XINFO', 'GROUPS', averages)) do
    groups[i] = state_of(group, entries, top)
  end
  redis.call('DEL', averages)
  for i = #entries, 1, -1 do redis.call('XADD', averages, entries[i][1], unpack(entries[i][2])) end
  for _, group in ipairs(groups) do
    redis.call('XGROUP', 'CREATE', averages, group.name, group.delivered, 'MKSTREAM')
  end
  if #entries + #groups == 0 then return end
  redis.call('XSETID', averages, top, 'ENTRIESADDED', added)
  for _, group in ipairs(groups) do
    redis.call('XGROUP', 'SETID', averages, group.name, group.delivered, 'ENTRIESREAD', added - group.waiting)
    for _, name in ipairs(group.consumers) do
      redis.call('XGROUP', 'CREATECONSUMER', averages, group.name, name)
    end
    for _, each in ipairs(group.pending) do
      redis.call('XCLAIM', averages, group.name, each[2], 0, each[1], 'IDLE', each[3], 'RETRYCOUNT', each[4],
        'FORCE', 'JUSTID')
    end
  end
end

local last = redis.call('GET', published_through)
need(not last or is_whole(last), published_through .. ' holds no time: rename or delete it')
if not last then
  last = last_known()
  if last then
    redis.call('SET', published_through, last)
    return 'moved'
  end
  last = ''
end
if last == '' or tonumber(hour) > tonumber(last) then
  if last ~= seen then return 'moved' end
  if is_a_stream then forget_deleted() end
  redis.call('XADD', averages, 'MAXLEN', '=', kept, hour .. '-0', unpack(ARGV, 9))
  redis.call('SET', published_through, hour)
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
