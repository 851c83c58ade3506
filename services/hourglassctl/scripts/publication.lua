#!lua flags=no-writes
-- What the averages' slot holds at one instant.
--
-- KEYS[1]  averages stream      KEYS[2] published-through hour
-- KEYS[3]  sorted set of what was published      KEYS[4] sorted set of hours that came too late
-- Reply    {published-through hour or nil, members published, members too late, entries on the stream}
-- Keeps    an hour that is published between two of these reads is never taken for missing
need(#KEYS == 4 and #ARGV == 0, 'publication takes 4 keys and no argument')
expect(KEYS[1], 'stream')
expect(KEYS[2], 'string')
for i = 3, 4 do expect(KEYS[i], 'zset') end
return {
  redis.call('GET', KEYS[2]),
  redis.call('ZRANGE', KEYS[3], 0, -1),
  redis.call('ZRANGE', KEYS[4], 0, -1),
  redis.call('XRANGE', KEYS[1], '-', '+'),
}
