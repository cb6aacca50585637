-- Whoever waits for a limit asks for it twenty times a second, and is refused. A lock on a row is flushed to disk, even if nothing
-- changes: at a portal's limit all replicas waited for these flushes, one after the other, and so did all else that commits. An
-- advisory lock is in memory alone: who is refused writes nothing.

-- Makes others that call it with one of these names wait until this transaction has ended.
create function lock_rate_limits(names text[]) returns void language plpgsql as $$
declare
    of text;
begin
    -- Always in the same order, so that two callers do not deadlock.
    for of in select distinct name from unnest(names) name order by name loop
        perform pg_advisory_xact_lock(hashtextextended('rate_limit ' || of, 0));
    end loop;
end $$;

-- Calls of the functions of before have locked rows: they are over before the ones below take their place.
lock table rate_limit in exclusive mode;

-- As before, with the lock of those who acquire: they store whole rows.
create or replace function define_rate_limit(
    new_name text, new_window_ms bigint, new_slices integer, new_share float8, new_quota bigint
) returns void language sql as $$
    select lock_rate_limits(array[new_name]);
    insert into rate_limit as l (name, window_ms, slices, share, quota, allowed, used)
    values (new_name, new_window_ms, new_slices, new_share, new_quota, share_of_quota(new_quota, new_share),
            array_fill(0::bigint, array[2 * new_slices]))
    on conflict (name) do update
    set share = excluded.share,
        quota = case when l.observed_at is null then excluded.quota else l.quota end,
        allowed = share_of_quota(case when l.observed_at is null then excluded.quota else l.quota end, excluded.share)
    where l.share <> excluded.share or (l.observed_at is null and l.quota <> excluded.quota)
$$;

-- As before, with that lock.
create or replace function acquire_quota(
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
    perform lock_rate_limits(names);
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
