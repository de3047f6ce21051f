-- Take a lock that is free or keep one that is ours. KEYS[1] lock, ARGV[1] owner, ARGV[2] milliseconds to live.
-- Answers 1 when it is ours now, 0 when it is another's.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
