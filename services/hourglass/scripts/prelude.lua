-- What every script begins with. A script that refuses, because an argument makes no sense or a key
-- holds what the pipeline did not put there, does so before it has changed anything.

local function need(holds, what)
  if not holds then error({ err = 'REFUSED ' .. what }) end
end

local function is_whole(text) return #text <= 16 and string.find(text, '^%d+$') ~= nil end

-- Sums are kept as text: they may outgrow the 53 bits of a number here. No more digits than this, and
-- one can be added to another within the 64 bits of HINCRBY, which knows neither '007' nor '-0'.
local function is_sum(text)
  return text == '0' or type(text) == 'string' and #text <= 19
    and string.find(text, '^%-?[1-9]%d*$') ~= nil
    and #text - (text:sub(1, 1) == '-' and 1 or 0) <= 18
end

-- A number of the hour records, or none yet: nothing can be added to anything else.
local function need_number(value, hours, name)
  if value and not is_sum(value) then -- the message is made when it is needed: commits pass by here
    need(false, hours .. ' holds no number in ' .. name
      .. ': put one there, or delete the key to have the partition counted again')
  end
end

-- So small that all counts of a batch add up to what is written without an exponent.
local function is_count(value)
  return type(value) == 'number' and value >= 1 and value <= 1e12 and value % 1 == 0
end

local function is_milli(value)
  return type(value) == 'number' and value % 1 == 0 and math.abs(value) <= 1e15
end

-- Strings and numbers, without gaps.
local function is_flat(list) return type(list) == 'table' and (pcall(table.concat, list)) end

local function unpacked(text)
  local good, value = pcall(cmsgpack.unpack, text)
  need(good and type(value) == 'table', 'the batch must be an array in MessagePack')
  return value
end

local function expect(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then
    error({ err = 'WRONGTYPE ' .. key .. ' is a ' .. found .. ', not a ' .. kind
      .. ': rename or delete it' })
  end
  return found ~= 'none'
end

local GREATEST_ID = '18446744073709551615-18446744073709551615'

-- Whether a script may add as many entries as it likes to a stream: XADD would refuse them one by one
-- behind an id of the last millisecond there is.
local function expect_room(stream)
  need(#redis.call('XRANGE', stream, '18446744073709551615', '+', 'COUNT', 1) == 0, stream
    .. ' takes no more entries, because it has the greatest id there is: rename or delete it when its readings are counted')
end

-- The numbers of a day's lanes, as divide.lua writes them; false before they are decided.
local function lanes_at(key)
  local lanes = expect(key, 'string') and redis.call('GET', key)
  need(not lanes or string.find(lanes, '^[%d,+]*$'), key .. ' holds no lanes: rename or delete it')
  return lanes
end

-- An expiry is extended and never shortened; GT alone does nothing on a key without TTL.
local function keep_until(key, at)
  if redis.call('PEXPIREAT', key, at, 'NX') == 0 then redis.call('PEXPIREAT', key, at, 'GT') end
end

-- The value of `name` in a reply that alternates names and values.
local function field(reply, name)
  for i = 1, #reply, 2 do
    if reply[i] == name then return reply[i + 1] end
  end
end
