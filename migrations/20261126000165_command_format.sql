-- While a fleet is upgraded, a writer of the last version leaves a write command whose form it does not know to a newer one, as it does
-- with messages. What was recorded before there were formats has the first.
alter table write_command add column format smallint not null default 1;

comment on column write_command.format is 'which form properties and actions have; a writer that does not know it leaves the command to a newer one';
