-- The summary of a part of a context serves every later event of its record.

comment on column inference.part is
    'for a part of a context that was too long for one question: the SHA-256 of playbook version, model, record and text, '
    'in hex';

create index inference_part on inference (part) where outcome = 'valid' and part is not null;
