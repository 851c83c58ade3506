#!lua
-- Take back what was published for hours that are not over: a clock that was ahead had them published,
-- and no hour before them is published any more.
--
-- KEYS[1]  averages stream      KEYS[2] published-through hour
-- KEYS[3]  sorted set of what was published      KEYS[4] sorted set of revisions
-- KEYS[5]  sorted set of hours that came too late
-- ARGV     start of the first hour that is not over, in ms
-- Reply    how many entries of the stream were taken back
-- Keeps    the published-through hour goes back to the last published hour that is left, in one step with the stream;
--          publish.lua takes the stream's last id back. What came too late for the hours that are taken
--          back is published like any other
need(#KEYS == 5 and #ARGV == 1, 'rewind takes 5 keys and 1 argument')
need(is_whole(ARGV[1]) and tonumber(ARGV[1]) % 3600000 == 0, 'an hour must start on the hour')
local averages, published_through, published, revisions, too_late = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local from = ARGV[1]
expect(averages, 'stream')
expect(published_through, 'string')
for i = 3, 5 do expect(KEYS[i], 'zset') end

local last = redis.call('GET', published_through)
if not last or tonumber(last) < tonumber(from) then return 0 end
redis.call('ZREMRANGEBYSCORE', published, from, '+inf')
redis.call('ZREMRANGEBYSCORE', revisions, from, '+inf')
local taken_back = 0
for _, entry in ipairs(redis.call('XRANGE', averages, from .. '-0', '+')) do
  taken_back = taken_back + redis.call('XDEL', averages, entry[1])
end
local left = redis.call('ZRANGE', published, -1, -1, 'WITHSCORES')[2]
if left then
  redis.call('SET', published_through, left)
  redis.call('ZREMRANGEBYSCORE', too_late, '(' .. left, '+inf')
else
  redis.call('DEL', published_through, too_late)
end
return taken_back
