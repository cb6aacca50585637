-- `leadline events` finds events by what became of them, the newest first, without reading all events.

-- What is parked is little, and is looked for often: by `leadline status`, `top`, `parked` and the view of that name.
create index event_parked on event (first_claimed_at, id) where state = 'parked';
create index event_by_reason on event (reason, first_claimed_at, id) where reason is not null;
