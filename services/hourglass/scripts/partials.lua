-- What scripts share that count readings: partial aggregates, one for an hour, {hour, count, sum, min, max,
-- devices}, and rejects, {id, reason, fields, readings, at}. Sums are decimal text; devices are blocks
-- and bits in turn; a reject is an entry, or the readings of a packed entry at the bits set in `at`.

-- Further rejects are quarantined without their fields, which stand in the stream as long as it lives:
-- a flood of bad readings takes less room there than here.
local KEPT_WHOLE = 10000

-- Whether the first so many of a list are strings; to look at each copies nothing, as is_flat would.
local function are_strings(list, length)
  for i = 1, length do
    if type(list[i]) ~= 'string' then return false end
  end
  return true
end

local function is_devices(list)
  return type(list) == 'table' and #list % 2 == 0 and are_strings(list, #list)
end

local function need_partials(partials, rejects)
  need(type(partials) == 'table' and type(rejects) == 'table', 'the batch must have partials and rejects')
  need(#partials == #KEYS - 3, 'each partial must have its devices')
  for _, partial in ipairs(partials) do
    need(type(partial) == 'table' and is_count(partial[2]) and is_sum(partial[3])
      and type(partial[1]) == 'number' and partial[1] >= 0 and partial[1] <= 23 and partial[1] % 1 == 0
      and is_milli(partial[4]) and is_milli(partial[5]) and partial[4] <= partial[5] and is_devices(partial[6]),
      'a partial must be hour, count, sum, min, max, devices')
  end
  for _, reject in ipairs(rejects) do
    need(type(reject) == 'table' and #reject == 5 and are_strings(reject, 3)
      and is_count(reject[4]) and type(reject[5]) == 'string',
      'a reject must be id, reason, fields, readings, at')
  end
end

-- What the hours of the partial aggregates hold; refuses before anything has changed.
local function records_of(hours, partials)
  local records = {}
  local totals = redis.call('HMGET', hours, 'acknowledged', 'quarantined')
  need_number(totals[1], hours, 'acknowledged')
  need_number(totals[2], hours, 'quarantined')
  for i, partial in ipairs(partials) do
    expect(KEYS[3 + i], 'hash')
    local h = string.format('%02d:', partial[1])
    local names = { h .. 'sealed', h .. 'min', h .. 'max', h .. 'count', h .. 'sum', h .. 'late',
      h .. 'late_sum', h .. 'late_min', h .. 'late_max', h .. 'devices' }
    local record = redis.call('HMGET', hours, unpack(names))
    for each = 2, #names do need_number(record[each], hours, names[each]) end
    records[i] = record
  end
  return records
end

local ones = setmetatable({ [0] = 0 }, { __index = function(known, byte)
  local count = byte % 2 + known[math.floor(byte / 2)]
  known[byte] = count
  return count
end })

-- How many of the devices in `bits` the block did not have yet; now it has them.
local function see(devices, block, bits)
  local known = redis.call('HGET', devices, block)
  if known == bits then return 0 end
  local added = 0
  if not known then
    for i = 1, #bits do added = added + ones[bits:byte(i)] end
    redis.call('HSET', devices, block, bits)
    return added
  end
  local union = {}
  for i = 1, math.max(#known, #bits) do
    local had = known:byte(i) or 0
    local has = bit.bor(had, bits:byte(i) or 0)
    added = added + ones[has - had]
    union[i] = string.char(has)
  end
  if added > 0 then redis.call('HSET', devices, block, table.concat(union)) end
  return added
end

local function widen(hours, min_field, max_field, min, max, partial)
  if not min or partial[4] < tonumber(min) then redis.call('HSET', hours, min_field, partial[4]) end
  if not max or partial[5] > tonumber(max) then redis.call('HSET', hours, max_field, partial[5]) end
end

-- Counts the partial aggregates and quarantines the rejects; readings that were late, and readings in all.
local function count_all(hours, quarantine, partials, records, rejects, records_expire, trace)
  local late, readings = 0, 0
  for i, partial in ipairs(partials) do
    local h = string.format('%02d:', partial[1])
    local sealed, min, max = unpack(records[i], 1, 3)
    readings = readings + partial[2]
    if sealed then
      redis.call('HINCRBY', hours, h .. 'late', partial[2])
      redis.call('HINCRBY', hours, h .. 'late_sum', partial[3])
      widen(hours, h .. 'late_min', h .. 'late_max', records[i][8], records[i][9], partial)
      late = late + partial[2]
    else
      redis.call('HINCRBY', hours, h .. 'count', partial[2])
      redis.call('HINCRBY', hours, h .. 'sum', partial[3])
      widen(hours, h .. 'min', h .. 'max', min, max, partial)
      if trace then redis.call('HSET', hours, h .. 'trace', trace) end
      local seen = 0
      for j = 1, #partial[6], 2 do seen = seen + see(KEYS[3 + i], partial[6][j], partial[6][j + 1]) end
      if seen > 0 then
        redis.call('HINCRBY', hours, h .. 'devices', seen)
        keep_until(KEYS[3 + i], records_expire)
      end
    end
  end
  if #rejects > 0 then
    local quarantined = 0
    local room = KEPT_WHOLE - redis.call('XLEN', quarantine)
    for i, reject in ipairs(rejects) do
      redis.call('XADD', quarantine, '*', 'id', reject[1], 'reason', reject[2],
        'fields', i <= room and reject[3] or '', 'readings', reject[4], 'at', reject[5])
      quarantined = quarantined + reject[4]
    end
    readings = readings + quarantined
    redis.call('HINCRBY', hours, 'quarantined', quarantined)
    keep_until(quarantine, records_expire)
  end
  keep_until(hours, records_expire)
  return late, readings
end
