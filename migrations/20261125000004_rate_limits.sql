-- Rate limits and spend limits, shared by the whole fleet: calls to HubSpot, requests and tokens of a model, money.
--
-- Replicas acquire small grants; time is the database's. A rolling window is cut into slices. What is acquired in a slice
-- may be used in that slice or in the next one. It counts until every window that could hold its use is over: for
-- `slices` + 3 slices (the next one, the two partial ones at the ends of the window, and one for calls that travel at
-- different speeds). So no window of the other side ever holds more than `allowed`, whichever process dies or hangs: a
-- grant that is not used is only lost. A window of one slice is a calendar day in UTC.

create table rate_limit (
    name                text primary key,
    window_ms           bigint not null check (window_ms > 0),
    slices              integer not null check (slices > 0),
    share               float8 not null check (share > 0 and share <= 1),
    quota               bigint not null check (quota >= 0),
    allowed             bigint not null check (allowed >= 0),
    slice               bigint not null default 0,
    free_at_slice_start bigint not null default 0,
    used                bigint[] not null,
    observed_at         timestamptz,
    raised_at           timestamptz not null default clock_timestamp(),
    paced_until         timestamptz,
    held_until          timestamptz,
    rejections          bigint not null default 0
);

-- 400 numbers for a rolling window, rewritten with every grant.
call compress_with_lz4('rate_limit', 'used');

comment on table rate_limit is 'limits that the fleet shares: calls to HubSpot, requests and tokens of a model, money';
comment on column rate_limit.name is
    'for example hubspot/9876543/10s, openai/gpt-5-mini/tokens, openai/money/day, openai/money/<playbook>/day';
comment on column rate_limit.slices is 'into how many slices the window is cut; 1: a calendar day in UTC';
comment on column rate_limit.share is 'the part of quota that the fleet takes at most; the rest is left to other clients';
comment on column rate_limit.quota is
    'what the other side allows within a window: as configured, or as its answers say. Of money: 10^-6 $';
comment on column rate_limit.allowed is
    'what the fleet takes within a window at the moment: less than its share while other clients are busy';
comment on column rate_limit.slice is 'the number of the newest slice, counted from 1970';
comment on column rate_limit.free_at_slice_start is 'what was left of allowed when the newest slice began';
comment on column rate_limit.used is
    'a ring: what was acquired in each slice. It holds two windows, because answers tell of the window before';
comment on column rate_limit.observed_at is 'when an answer last told of quota and remaining';
comment on column rate_limit.raised_at is 'when allowed was last set: it grows by a hundredth of quota a second';
comment on column rate_limit.paced_until is 'until then it is granted evenly over the window, because it was used up';
comment on column rate_limit.held_until is 'after a rejection (429) nothing is granted until then';
comment on column rate_limit.rejections is
    'how often the other side rejected a call because of the limit: either a defect here or a burst of other clients';

-- A part of a quota. 190 * 0.8 is a little less than 152 in floating point.
create function share_of_quota(quota bigint, share float8) returns bigint language sql immutable as $$
    select floor(quota * share + 1e-6)::bigint
$$;

-- What is left free beside what other clients are known to use: a hundredth of the quota, and one.
create function headroom(quota bigint) returns bigint language sql immutable as $$
    select share_of_quota(quota, 0.01) + 1
$$;

-- Creates a limit, or changes its settings. A quota that was learnt from answers outweighs the configured one.
create function define_rate_limit(
    new_name text, new_window_ms bigint, new_slices integer, new_share float8, new_quota bigint
) returns void language sql as $$
    insert into rate_limit as l (name, window_ms, slices, share, quota, allowed, used)
    values (new_name, new_window_ms, new_slices, new_share, new_quota, share_of_quota(new_quota, new_share),
            array_fill(0::bigint, array[2 * new_slices]))
    on conflict (name) do update
    set share = excluded.share,
        quota = case when l.observed_at is null then excluded.quota else l.quota end,
        allowed = share_of_quota(case when l.observed_at is null then excluded.quota else l.quota end, excluded.share)
    where l.share <> excluded.share or (l.observed_at is null and l.quota <> excluded.quota)
$$;

-- What was acquired in the slices after `after` and up to `upto`: one or two ranges of the ring.
create function quota_used(l rate_limit, after bigint, upto bigint) returns bigint language plpgsql immutable as $$
declare
    ring        integer := cardinality(l.used);
    first_slice bigint := greatest(after + 1, l.slice + 1 - ring);
    last_slice  bigint := least(upto, l.slice);
    first_place integer := first_slice % ring + 1;
    last_place  integer := last_slice % ring + 1;
begin
    return case
        when first_slice > last_slice then 0
        when first_place <= last_place then (select sum(amount) from unnest(l.used[first_place : last_place]) amount)
        else (select sum(amount) from unnest(l.used[first_place :] || l.used[: last_place]) amount)
    end;
end $$;

-- What may be granted in slice `current_slice` of a limit that is granted evenly: in each tenth of the window a fifth more
-- than a tenth of `allowed`, so that what nobody used is caught up with.
--
-- Why evenly: what is taken in a burst comes free in a burst, a window later, and so on for ever. Between two bursts no
-- call is made, so no answer tells that other clients have begun to call, and in the middle of a burst answers are least
-- exact.
create function paced_amount(l rate_limit, current_slice bigint, need bigint) returns bigint
language plpgsql immutable as $$
declare
    tenth bigint := ceil(l.allowed * 0.12);
    taken bigint := quota_used(l, current_slice - l.slices / 10, current_slice);
begin
    return case when taken >= tenth then 0 else greatest(tenth - taken, need) end;
end $$;

-- Takes over what an answer said of `remaining`, `age_ms` after its call was sent. What is used up and was not acquired
-- here was used by other clients: it lowers `allowed` at once, and lets it grow again slowly.
create function observe_rate_limit(l rate_limit, remaining bigint, age_ms float8, now_ms float8) returns rate_limit
language plpgsql as $$
declare
    slice_ms float8 := l.window_ms::float8 / l.slices;
    -- The slice in which the call was sent: the answer does not know of what was acquired later.
    sent     bigint := floor((now_ms - age_ms) / slice_ms);
    others   bigint;
    target   bigint;
    grown    bigint;
begin
    if l.slices = 1 then
        -- A day: the answer is exact, except for what was acquired since.
        l.allowed := greatest(0, remaining + quota_used(l, l.slice - 1, l.slice) - l.quota + share_of_quota(l.quota, l.share));
    elsif age_ms < l.window_ms * 0.9 then
        others := greatest(0, l.quota - remaining - quota_used(l, sent - l.slices, sent));
        target := greatest(1, least(share_of_quota(l.quota, l.share), l.quota - others - headroom(l.quota)));
        if target <= l.allowed then
            l.allowed := target;
            l.raised_at := to_timestamp(now_ms / 1000);
        else
            -- Slowly: a hundredth of the quota a second.
            grown := floor(l.quota * (now_ms - extract(epoch from l.raised_at) * 1000) / 100000);
            if grown >= 1 then
                l.allowed := least(target, l.allowed + grown);
                l.raised_at := to_timestamp(now_ms / 1000);
            end if;
        end if;
    end if;
    l.observed_at := to_timestamp(now_ms / 1000);
    return l;
end $$;

-- Acquires from several limits at once: of each at least `need` and at most `want`, or nothing of any. `usable_share` is
-- the part of the limits that this caller may use up; below 1 for backfill, which leaves the rest to live events.
--
-- The same call carries what the caller knows: what answers said of quota and remaining (null: nothing) and how long ago
-- their calls were sent; for how long nothing is to be granted after a rejection of the first limit; and refunds, by the
-- limit's index in `names` (from 1) and slice (a negative amount: more was used than was acquired).
--
-- All rows are locked in the order of names for the whole call, so that two callers neither deadlock nor see the same
-- free amount.
create function acquire_quota(
    names text[], need bigint[], want bigint[], usable_share float8,
    observed_quota bigint[], observed_remaining bigint[], observed_age_ms float8[], pause_ms float8,
    refund_index integer[], refund_slice bigint[], refund_amount bigint[],
    out granted bigint[], out slices bigint[], out allowed bigint[], out valid_ms float8[], out wait_ms float8
) language plpgsql as $$
declare
    l             rate_limit;
    changed       rate_limit[] := '{}';
    amounts       bigint[] := '{}';
    now_ms        float8;
    slice_ms      float8;
    current_slice bigint;
    ring          integer;
    place         integer;
    -- For how many slices an acquired amount counts.
    span          integer;
    minimum       bigint;
    unused        bigint;
    available     bigint;
    part          bigint;
    is_granted    boolean := true;
    must_store    boolean := pause_ms is not null or cardinality(refund_index) > 0;
begin
    granted := '{}'; slices := '{}'; allowed := '{}'; valid_ms := '{}'; wait_ms := 0;
    perform from rate_limit x where x.name = any(names) order by x.name for update;
    -- After the lock, so that a call that held it before is in the past.
    now_ms := extract(epoch from clock_timestamp()) * 1000;
    for i in 1 .. cardinality(names) loop
        select * into strict l from rate_limit x where x.name = names[i];
        slice_ms := l.window_ms::float8 / l.slices;
        ring := cardinality(l.used);
        span := case when l.slices = 1 then 1 else l.slices + 3 end;
        current_slice := greatest(l.slice, floor(now_ms / slice_ms));
        place := current_slice % ring + 1;
        if current_slice > l.slice then
            for k in 0 .. least(current_slice - l.slice, ring)::integer - 1 loop
                l.used[(current_slice - k) % ring + 1] := 0;
            end loop;
            l.slice := current_slice;
            l.free_at_slice_start := l.allowed - quota_used(l, current_slice - span, current_slice);
        end if;
        for j in 1 .. cardinality(refund_index) loop
            if refund_index[j] = i and refund_slice[j] > current_slice - span and refund_slice[j] <= current_slice then
                part := refund_slice[j] % ring + 1;
                l.used[part] := greatest(0, l.used[part] - refund_amount[j]);
            end if;
        end loop;
        if observed_quota[i] is not null and observed_quota[i] <> l.quota then
            l.allowed := case when l.quota = 0 then share_of_quota(observed_quota[i], l.share)
                              else greatest(1, floor(l.allowed::float8 * observed_quota[i] / l.quota)) end;
            l.quota := observed_quota[i];
            l.free_at_slice_start := l.allowed - quota_used(l, current_slice - span, current_slice);
            must_store := true;
        end if;
        if observed_remaining[i] is not null then
            l := observe_rate_limit(l, observed_remaining[i], observed_age_ms[i], now_ms);
            must_store := true;
        end if;
        if i = 1 and pause_ms is not null then
            l.held_until := greatest(l.held_until, to_timestamp((now_ms + pause_ms) / 1000));
            l.rejections := l.rejections + 1;
        end if;

        -- A request that needs more than the whole limit gets the whole limit.
        minimum := least(need[i], share_of_quota(l.allowed, usable_share));
        unused := l.allowed - quota_used(l, current_slice - span, current_slice);
        available := unused - l.allowed + share_of_quota(l.allowed, usable_share);
        if l.held_until > to_timestamp(now_ms / 1000) then
            available := 0;
            wait_ms := greatest(wait_ms, extract(epoch from l.held_until) * 1000 - now_ms);
        elsif l.slices > 1 then
            -- Each slice grants a quarter of what was free when it began, and each call at most half of that: a burst
            -- passes within moments, and where little is left, every caller gets some of it. The first call of a slice
            -- gets at least what it needs.
            part := greatest(0, ceil(l.free_at_slice_start / 4.0)::bigint - l.used[place]);
            if l.used[place] = 0 then
                part := greatest(part, minimum);
            end if;
            available := least(available, part);
            available := least(available, greatest(ceil(available / 2.0)::bigint, minimum));
            if unused < minimum and coalesce(l.paced_until < to_timestamp((now_ms + l.window_ms / 2) / 1000), true) then
                l.paced_until := to_timestamp((now_ms + l.window_ms) / 1000);
                must_store := true;
            elsif l.paced_until > to_timestamp(now_ms / 1000) then
                available := least(available, paced_amount(l, current_slice, minimum));
            end if;
        elsif available < minimum and l.observed_at < to_timestamp(now_ms / 1000) - interval '5 minutes' then
            -- The other side's day may begin at another hour. One call every five minutes finds out.
            available := minimum;
            l.observed_at := to_timestamp(now_ms / 1000);
        end if;
        if need[i] > 0 and (available < minimum or available <= 0) then
            is_granted := false;
            wait_ms := greatest(wait_ms, case when l.slices = 1 then least(300000, l.window_ms * (current_slice + 1) - now_ms)
                                              else slice_ms * (current_slice + 1) - now_ms end);
        end if;
        changed := changed || l;
        amounts := amounts || least(greatest(want[i], minimum), greatest(available, 0));
        slices := slices || current_slice;
        allowed := allowed || l.allowed;
        valid_ms := valid_ms || (slice_ms * (current_slice + case when l.slices = 1 then 1 else 2 end) - now_ms);
    end loop;
    if not is_granted then
        amounts := array_fill(0::bigint, array[cardinality(names)]);
    end if;
    granted := amounts;
    if must_store or 0 < any(amounts) then
        for i in 1 .. cardinality(names) loop
            l := changed[i];
            place := l.slice % cardinality(l.used) + 1;
            l.used[place] := l.used[place] + amounts[i];
            update rate_limit x
            set quota = l.quota, allowed = l.allowed, slice = l.slice, free_at_slice_start = l.free_at_slice_start,
                used = l.used, observed_at = l.observed_at, raised_at = l.raised_at, paced_until = l.paced_until,
                held_until = l.held_until, rejections = l.rejections
            where x.name = l.name;
        end loop;
    end if;
    if is_granted then
        wait_ms := 0;
    end if;
end $$;
