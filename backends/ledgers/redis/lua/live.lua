-- ARGV: time, fan-out. Answers {index, generation, stage, delivery, owner, key} of each slot under way.
local answers = {}
each_entry(ARGV[2], function(index, entry)
  if entry.stage ~= 'free' then
    answers[#answers + 1] = { index, entry.generation, entry.stage, entry.delivery, entry.owner, entry.key }
  end
end)
return answers
