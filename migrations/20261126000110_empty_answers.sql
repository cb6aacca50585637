-- An answer can be empty: reasoning that takes all of the room leaves none.

alter table inference drop constraint inference_outcome_check;
alter table inference add constraint inference_outcome_check
    check (outcome in ('valid', 'invalid', 'unverified', 'refused', 'truncated', 'filtered', 'empty'));
