-- Two hundred slices of a window instead of a hundred.
--
-- What is quota_used counts for three slices longer than the window, so that it is exact whenever it is used; of a hundred
-- slices that was 3 % of every limit, never used. Half of that is still 150 ms of ten seconds: more than a call takes from
-- its lot to the other side. And the headroom beside others is a hundredth of the quota instead of a fiftieth: what others
-- use is known twice as exactly.

-- Budgets keep what is quota_used: that of an old slice counts as if it were quota_used in the later one of its halves.
update rate_limit
set slices = 200,
    slice = slice * 2 + 1,
    used = (select array_agg(half.amount order by old.place, half.number)
            from unnest(used) with ordinality old (amount, place),
                 lateral (values (0, 0::bigint), (1, old.amount)) half (number, amount))
where slices = 100;

-- The ring is 3 KB now, and packed at each ask.
alter table rate_limit alter column used set compression lz4;

-- What was quota_used in the slices (above, up to `upto`]: one or two stretches of the ring.
create or replace function quota_used(b rate_limit, above bigint, upto bigint) returns bigint language plpgsql immutable as $$
declare
    ring  integer := cardinality(b.used);
    since bigint := greatest(above + 1, b.slice + 1 - ring);
    until bigint := least(upto, b.slice);
    first integer := since % ring + 1;
    last  integer := until % ring + 1;
begin
    return case
        when since > until then 0
        when first <= last then (select sum(amount) from unnest(b.used[first : last]) amount)
        else (select sum(amount) from unnest(b.used[first :] || b.used[: last]) amount)
    end;
end $$;

-- What is left to others beside what they are known to use.
create function headroom(quota bigint) returns bigint language sql immutable as $$
    select share_of_quota(quota, 0.01) + 1
$$;

create or replace function observe_rate_limit(b rate_limit, remaining bigint, age_ms float8, now_ms float8) returns rate_limit language plpgsql as $$
declare
    slice_ms float8 := b.window_ms::float8 / b.slices;
    -- As it was when the call was sent: what was quota_used after it is not in its answer.
    sent     bigint := floor((now_ms - age_ms) / slice_ms);
    others   bigint;
    target   bigint;
    grown    bigint;
begin
    if b.slices = 1 then
        -- A day: the answer knows best, except for what was quota_used since.
        b.allowed := greatest(0, remaining + quota_used(b, b.slice - 1, b.slice) - b.quota + share_of_quota(b.quota, b.share));
    elsif age_ms < b.window_ms * 0.9 then
        others := greatest(0, b.quota - remaining - quota_used(b, sent - b.slices, sent));
        target := greatest(1, least(share_of_quota(b.quota, b.share), b.quota - others - headroom(b.quota)));
        if target <= b.allowed then
            b.allowed := target;
            b.raised_at := to_timestamp(now_ms / 1000);
        else
            -- Slowly: a hundredth of the quota a second.
            grown := floor(b.quota * (now_ms - extract(epoch from b.raised_at) * 1000) / 100000);
            if grown >= 1 then
                b.allowed := least(target, b.allowed + grown);
                b.raised_at := to_timestamp(now_ms / 1000);
            end if;
        end if;
    end if;
    b.observed_at := to_timestamp(now_ms / 1000);
    return b;
end $$;
