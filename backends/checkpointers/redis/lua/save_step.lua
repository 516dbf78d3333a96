-- ARGV: epoch, time ('' is now), position, step, folds.
if is_fenced() then return redis.error_reply('FENCED') end
local saved_at = ARGV[2] ~= '' and ARGV[2] or now()
if redis.call('HSETNX', run .. 'steps', ARGV[3], saved_at .. '\n' .. ARGV[4]) == 1 then set_folds(ARGV[5]) end
return 1
