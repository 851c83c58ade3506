#!lua
-- Enter a partition into the index, before its first reading, and drop what has expired from it.
--
-- KEYS[1]  the index, a sorted set: stream -> real time in ms at which it expires at the latest
-- ARGV     stream, that time
-- Reply    1 if the index did not know the stream, else 0
-- Keeps    the index lives no longer than what it lists, and lists nothing that has expired
need(#KEYS == 1 and #ARGV == 2, 'register takes 1 key and 2 arguments')
need(ARGV[1] ~= '', 'the stream must have a name')
need(is_whole(ARGV[2]), 'the time must be a whole number')
local index = KEYS[1]
local stream, expires = ARGV[1], ARGV[2]
expect(index, 'zset')

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', index, '-inf', '(' .. string.format('%.0f', now))
local added = redis.call('ZADD', index, 'GT', expires, stream)
keep_until(index, expires)
return added
