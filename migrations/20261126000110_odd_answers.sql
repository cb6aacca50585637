-- Answers that are empty.

-- Reasoning that takes all of the room leaves no answer.
alter table inference drop constraint inference_outcome_check;
alter table inference add constraint inference_outcome_check
    check (outcome in ('valid', 'invalid', 'unverified', 'refused', 'truncated', 'filtered', 'empty'));
