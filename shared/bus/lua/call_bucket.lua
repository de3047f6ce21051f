-- One bucket of calls that all processes share: the moment at which it will be full again (microseconds of Redis' own
-- clock), and no key when that is past. See shared/cloud/call_bucket.py.
-- KEYS: the bucket. ARGV: its size in microseconds; the call's cost in microseconds; the longest wait that is accepted;
-- microseconds to pause, 0 for a call.
-- Answers whether the turn was taken (1 or 0) and the microseconds until it comes.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local size, cost, longest, pause = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local most = 3600 * 1000000
local full = tonumber(redis.call('GET', KEYS[1]) or '') or now
-- A clock that was set back makes nobody wait longer than the longest pause.
full = math.max(now, math.min(full, now + size + most))
local taken, wait = 1, 0
if pause > 0 then
  full = math.max(full, now + math.min(pause, most) + size)
else
  local after = full + math.min(cost, size)
  wait = math.max(0, after - size - now)
  if wait > longest then
    taken = 0
  else
    full = after
  end
end
if taken == 1 and full > now then
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
end
return {taken, wait}
