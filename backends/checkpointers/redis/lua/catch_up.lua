-- ARGV: nothing, how many at most. Indexes runs that a version created which kept no index of open and ended ones, the
-- oldest first; `indexed` is the time up to which all are. Answers whether there may be more.
local from = redis.call('GET', index .. 'indexed') or '-inf'
local found = redis.call('ZRANGEBYSCORE', index .. 'runs', from, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for at = 1, #found, 2 do
  index_as_it_stands(index .. '{' .. found[at] .. '}:')
end
local is_full = #found == 2 * tonumber(ARGV[2])
local last = found[#found]
-- More of one moment than are read at once cannot be told apart by their time.
if is_full and last == from then last = '(' .. last end
if last then redis.call('SET', index .. 'indexed', last) end
return is_full and 1 or 0
