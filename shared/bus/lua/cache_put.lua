-- Keep an entry unless there is one that is newer or the same. KEYS[1] entry; ARGV[1] version, ARGV[2] when that was made
-- (microseconds), ARGV[3] body, ARGV[4] milliseconds to live. Answers 1 when it is kept now, 0 when not.
local kept = redis.call('HMGET', KEYS[1], 'at', 'version')
if kept[1] and kept[2] then
  local at, version = tonumber(kept[1]), tonumber(kept[2])
  if at > tonumber(ARGV[2]) or (at == tonumber(ARGV[2]) and version >= tonumber(ARGV[1])) then
    return 0
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'at', ARGV[2], 'body', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
