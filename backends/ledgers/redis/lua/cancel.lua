-- ARGV: time, epoch, fan-out or empty for the whole run.
local fan_out = ARGV[3]
local refusal = guard(tonumber(ARGV[2]), fan_out ~= '' and { [fan_out] = true } or {})
if refusal then return refusal end
redis.call('HSET', fan_out ~= '' and run .. fan_out .. ':head' or run .. 'meta', 'cancelled_in', ARGV[2])
