-- Take from token buckets, one request after the other. A bucket is the moment at which it will be full again
-- (microseconds); a full one is no key at all. Beside it stands the moment until which those that were refused last have
-- been told to wait: the next one is told to come one token later, so that not all of them come back for the same one.
-- KEYS: the bucket of each request, several of them maybe the same, and then the one that all requests share, if any.
-- ARGV: number of requests; of the shared bucket its capacity and the microseconds to a token (0 0: there is none); then
-- for each request capacity, microseconds to a token (0 0: it has no bucket), and its cost in thousandths of a token.
-- Answers three numbers for each: who refused it (0 nobody, 1 its own bucket, 2 the shared one), thousandths of a token
-- that its own bucket holds, microseconds after which to come again.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local known = {}

local function bucket(key, size)
  local found = known[key]
  if not found then
    found = {full = now, told = now}
    local value = redis.call('GET', key)
    if value then
      local full, told = string.match(value, '^(%d+) (%d+)$')
      if full then
        found.full, found.told = tonumber(full), tonumber(told)
      end
    end
    known[key] = found
  end
  -- Neither a limit that was lowered nor a clock that was set back makes anybody wait longer than for a whole bucket.
  found.full = math.max(now, math.min(found.full, now + size))
  found.told = math.min(found.told, now + size)
  return found
end

local function wait(found, size, cost)
  local ready = found.full + cost - size
  if ready <= now then
    return 0
  end
  if found.told > now then
    ready = math.max(ready, found.told + cost)
  end
  found.told = math.min(ready, now + size)
  return found.told - now
end

local function spent(cost, each, size)
  return math.min(math.floor(cost * each / 1000 + 0.5), size)
end

local count, shared_each = tonumber(ARGV[1]), tonumber(ARGV[3])
local shared_size = tonumber(ARGV[2]) * shared_each
local answers = {}
for i = 1, count do
  local each, cost = tonumber(ARGV[2 + 3 * i]), tonumber(ARGV[3 + 3 * i])
  local size = tonumber(ARGV[1 + 3 * i]) * each
  local own = size > 0 and bucket(KEYS[i], size)
  local shared = shared_size > 0 and bucket(KEYS[count + 1], shared_size)
  local refused, waits = 0, own and wait(own, size, spent(cost, each, size)) or 0
  if waits > 0 then
    refused = 1
  elseif shared then
    waits = wait(shared, shared_size, spent(cost, shared_each, shared_size))
    refused = waits > 0 and 2 or 0
  end
  if refused == 0 then
    if own then
      own.full = own.full + spent(cost, each, size)
    end
    if shared then
      shared.full = shared.full + spent(cost, shared_each, shared_size)
    end
  end
  answers[3 * i - 2] = refused
  answers[3 * i - 1] = own and math.floor((size - (own.full - now)) / each * 1000) or 0
  answers[3 * i] = waits
end

for key, found in pairs(known) do
  local over = math.max(found.full, found.told)
  if over > now then
    local value = string.format('%.0f %.0f', found.full, math.max(found.told, now))
    redis.call('SET', key, value, 'PX', math.ceil((over - now) / 1000))
  end
end
return answers
