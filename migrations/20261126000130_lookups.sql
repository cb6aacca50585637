-- Indexes by which erasure and retention find rows. Without them, an erasure read all inferences, and the deletion of an old
-- inference all write commands, because of the foreign key.

-- Of every outcome and every part; prior answers use it as before.
drop index inference_of_record;
create index inference_of_record on inference (portal_id, object_type, object_id, playbook);

create index inference_event on inference (event_id);
create index write_command_inference on write_command (inference_id);
