#!lua
-- Decide which lanes producers share a day out to, for all of them and for good.
--
-- KEYS[1]  the day's lanes: the numbers of those that it is shared out to, with commas between, none for
--          the plain partition alone; after a plus sign those of others that were written to
-- KEYS[2]  hour records of the day's plain partition
-- ARGV     the numbers proposed, those of the lanes that the caller has written to, real time in ms
--          at which the hour records expire
-- Reply    the day's lanes
-- Keeps    decided once. Sealing an hour of the plain partition tells the lanes, in this slot too: so
--          a publisher of an hour knows every lane that existed before, and none is added after.
--          If a failover loses the decision, and another one is taken before the producers have sent
--          the first, the lanes of both are known
need(#KEYS == 2 and #ARGV == 3, 'divide takes 2 keys and 3 arguments')
for i = 1, 2 do
  need(ARGV[i] == '' or string.find(ARGV[i], '^[%d,]+$') and not string.find(',' .. ARGV[i] .. ',', ',,', 1, true),
    'lanes must be numbers')
end
need(is_whole(ARGV[3]), 'the time must be a whole number')
local key, hours = KEYS[1], KEYS[2]
local proposed, used, records_expire = ARGV[1], ARGV[2], ARGV[3]
local before = lanes_at(key)

local function may_be_sealed()
  local kind = redis.call('TYPE', hours).ok
  if kind ~= 'hash' then return kind ~= 'none' end -- a damaged one is the aggregators' to tell of
  for hour = 0, 23 do
    if redis.call('HEXISTS', hours, string.format('%02d:sealed', hour)) == 1 then return true end
  end
  return false
end

local lanes = before
if not lanes then lanes = may_be_sealed() and '' or proposed end
for number in string.gmatch(used, '%d+') do
  if not string.find(lanes, '%f[%d]' .. number .. '%f[%D]') then
    lanes = lanes .. (string.find(lanes, '+', 1, true) and ',' or '+') .. number
  end
end
if lanes ~= before then redis.call('SET', key, lanes, 'KEEPTTL') end
keep_until(key, records_expire)
return lanes
