-- The names of the states of what waits for a person's approval. Alone in this file: a transaction that adds a value to an enum may
-- not use it.
alter type event_state add value 'proposed';
alter type write_command_state add value 'proposed';
