#!lua
-- Enter partitions into the index, before their first reading, and drop what has expired from it.
--
-- KEYS[1]  the index, a sorted set: stream -> real time in ms at which it expires at the latest
-- ARGV     that time, the streams
-- Reply    how many of the streams the index did not know
-- Keeps    the index lives no longer than what it lists, and lists nothing that has expired
need(#KEYS == 1 and #ARGV >= 2, 'register takes 1 key, and 2 arguments or more')
need(is_whole(ARGV[1]), 'the time must be a whole number')
for i = 2, #ARGV do need(ARGV[i] ~= '', 'a stream must have a name') end
local index, expires = KEYS[1], ARGV[1]
expect(index, 'zset')

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', index, '-inf', '(' .. string.format('%.0f', now))
local added = 0
for i = 2, #ARGV do added = added + redis.call('ZADD', index, 'GT', expires, ARGV[i]) end
keep_until(index, expires)
return added
