-- An answer from which no plan could be made is planned again when its event comes back, and no one pays for it twice. When the
-- playbook was changed meanwhile so that the answer no longer fits it, the new version of the playbook asks once more.
drop index inference_valid;
create unique index inference_valid
    on inference (event_id, playbook, playbook_version, portal_id, object_type, object_id, coalesce(part, ''))
    where outcome = 'valid' and object_id <> 0;

comment on column inference.context_hash is
    'SHA-256 of the playbook''s version and what was read; the same context is not sent again for a while. Null where no plan '
    'could be made from the answer, so that a later event asks again';
