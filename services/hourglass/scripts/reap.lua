#!lua flags=allow-oom
-- Remove from a consumer group the consumers that are idle for long and have nothing pending.
--
-- KEYS[1]  the stream
-- ARGV     group, idle time in ms from which a consumer counts as gone
-- Reply    consumers removed; 0 if there is no such stream or group
-- Keeps    XGROUP DELCONSUMER drops what a consumer has pending, so to look and to remove are one step
need(#KEYS == 1 and #ARGV == 2, 'reap takes 1 key and 2 arguments')
need(is_whole(ARGV[2]), 'the idle time must be a whole number')
local stream = KEYS[1]
local group, gone_after = ARGV[1], tonumber(ARGV[2])

if not expect(stream, 'stream') then return 0 end
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, group)
if consumers.err then
  return consumers.err:find('^NOGROUP') and 0 or consumers
end

local removed = 0
for _, consumer in ipairs(consumers) do
  if field(consumer, 'pending') == 0 and field(consumer, 'idle') >= gone_after then
    redis.call('XGROUP', 'DELCONSUMER', stream, group, field(consumer, 'name'))
    removed = removed + 1
  end
end
return removed
