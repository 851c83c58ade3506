#!lua flags=no-writes
-- When the first entry of a range was measured, without its other fields, which may be large.
--
-- KEYS[1]  the stream
-- ARGV     ranges of ids, each the two ends that XRANGE takes
-- Reply    for each range that has an entry: {id of the first, those of its fields `ts` and `day_ms`
--          that are no longer than a number, names and values in turn}
need(#KEYS == 1 and #ARGV >= 2 and #ARGV % 2 == 0, 'first takes 1 key and pairs of arguments')
for i = 1, #ARGV do need(string.find(ARGV[i], '^%(?[%d%-+]+$'), 'an id must be a time and a number') end
local found = {}
if not expect(KEYS[1], 'stream') then return found end
for i = 1, #ARGV, 2 do
  local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i + 1], 'COUNT', 1)[1]
  if entry then
    local times = {}
    for _, name in ipairs({ 'ts', 'day_ms' }) do
      local time = field(entry[2], name)
      if time and #time <= 32 then
        times[#times + 1] = name
        times[#times + 1] = time
      end
    end
    found[#found + 1] = { entry[1], times }
  end
end
return found
