-- At the limit, calls are spread over the window.
--
-- What is taken in a burst comes back in a burst, a window later, and for ever: in between nobody calls, so nobody hears
-- that others have begun to call, too, and what our answers say about them is least exact in the middle of a burst. So once
-- an allowance was used up, it is lent evenly for as long as a window is. Who is heard that exactly needs less headroom: a
-- fiftieth of the quota instead of a twentieth.

alter table rate_limit add column paced_until timestamptz;
comment on column rate_limit.paced_until is 'until when it is lent evenly, because it was used up';

-- What may be lent in slice c of a rate_limit that is lent evenly: a fifth more than a tenth of it in each tenth of the window,
-- so that what nobody took is caught up with.
create function paced(b rate_limit, c bigint, need bigint) returns bigint language plpgsql immutable as $$
declare
    tenth bigint := ceil(b.allowed * 0.12);
    taken bigint := quota_used(b, c - b.slices / 10, c);
begin
    return case when taken >= tenth then 0 else greatest(tenth - taken, need) end;
end $$;

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
        target := greatest(1, least(share_of_quota(b.quota, b.share), b.quota - others - share_of_quota(b.quota, 0.02) - 1));
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

create or replace function acquire_quota(
    names text[], need bigint[], want bigint[], lane float8,
    said_quota bigint[], said_remaining bigint[], said_age_ms float8[], hold_ms float8,
    refund_limit integer[], refund_slice bigint[], refund_amount bigint[],
    out granted bigint[], out slices bigint[], out allowances bigint[], out valid_ms float8[], out wait_ms float8
) language plpgsql as $$
declare
    b        rate_limit;
    known    rate_limit[] := '{}';
    asked    bigint[] := '{}';
    givable  bigint[] := '{}';
    now_ms   float8;
    slice_ms float8;
    c        bigint;
    ring     integer;
    slot     integer;
    span     integer;
    least_   bigint;
    left_    bigint;
    free_    bigint;
    part     bigint;
    lent     boolean := true;
    is_news  boolean := hold_ms is not null or cardinality(refund_limit) > 0;
begin
    granted := '{}'; slices := '{}'; allowances := '{}'; valid_ms := '{}'; wait_ms := 0;
    perform from rate_limit x where x.name = any(names) order by x.name for update;
    -- After the lock: whoever had it before us is in the past.
    now_ms := extract(epoch from clock_timestamp()) * 1000;
    for i in 1 .. cardinality(names) loop
        select * into strict b from rate_limit x where x.name = names[i];
        slice_ms := b.window_ms::float8 / b.slices;
        ring := cardinality(b.used);
        span := case when b.slices = 1 then 1 else b.slices + 3 end;
        c := greatest(b.slice, floor(now_ms / slice_ms));
        slot := c % ring + 1;
        if c > b.slice then
            for k in 0 .. least(c - b.slice, ring)::integer - 1 loop
                b.used[(c - k) % ring + 1] := 0;
            end loop;
            b.slice := c;
            b.free := b.allowed - quota_used(b, c - span, c);
        end if;
        for j in 1 .. cardinality(refund_limit) loop
            if refund_limit[j] = i and refund_slice[j] > c - span and refund_slice[j] <= c then
                part := refund_slice[j] % ring + 1;
                b.used[part] := greatest(0, b.used[part] - refund_amount[j]);
            end if;
        end loop;
        if said_quota[i] is not null and said_quota[i] <> b.quota then
            b.allowed := case when b.quota = 0 then share_of_quota(said_quota[i], b.share)
                              else greatest(1, floor(b.allowed::float8 * said_quota[i] / b.quota)) end;
            b.quota := said_quota[i];
            b.free := b.allowed - quota_used(b, c - span, c);
            is_news := true;
        end if;
        if said_remaining[i] is not null then
            b := observe_rate_limit(b, said_remaining[i], said_age_ms[i], now_ms);
            is_news := true;
        end if;
        if i = 1 and hold_ms is not null then
            b.held_until := greatest(b.held_until, to_timestamp((now_ms + hold_ms) / 1000));
            b.rejections := b.rejections + 1;
        end if;

        -- What one question needs is never more than there ever is.
        least_ := least(need[i], share_of_quota(b.allowed, lane));
        left_ := b.allowed - quota_used(b, c - span, c);
        free_ := left_ - b.allowed + share_of_quota(b.allowed, lane);
        if b.held_until > to_timestamp(now_ms / 1000) then
            free_ := 0;
            wait_ms := greatest(wait_ms, extract(epoch from b.held_until) * 1000 - now_ms);
        elsif b.slices > 1 then
            -- A quarter of what is free in each slice, and half of that to each who asks: a burst passes within moments,
            -- and where there is little, all get some of it. The first of a slice always gets what it needs.
            part := greatest(0, ceil(b.free / 4.0)::bigint - b.used[slot]);
            if b.used[slot] = 0 then
                part := greatest(part, least_);
            end if;
            free_ := least(free_, part);
            free_ := least(free_, greatest(ceil(free_ / 2.0)::bigint, least_));
            if left_ < least_ and coalesce(b.paced_until < to_timestamp((now_ms + b.window_ms / 2) / 1000), true) then
                b.paced_until := to_timestamp((now_ms + b.window_ms) / 1000);
                is_news := true;
            elsif b.paced_until > to_timestamp(now_ms / 1000) then
                free_ := least(free_, paced(b, c, least_));
            end if;
        elsif free_ < least_ and b.observed_at < to_timestamp(now_ms / 1000) - interval '5 minutes' then
            -- The day of the other side begins when it likes. One call finds out.
            free_ := least_;
            b.observed_at := to_timestamp(now_ms / 1000);
        end if;
        if need[i] > 0 and (free_ < least_ or free_ <= 0) then
            lent := false;
            wait_ms := greatest(wait_ms, case when b.slices = 1 then least(300000, b.window_ms * (c + 1) - now_ms)
                                              else slice_ms * (c + 1) - now_ms end);
        end if;
        known := known || b;
        asked := asked || least(greatest(want[i], least_), greatest(free_, 0));
        slices := slices || c;
        allowances := allowances || b.allowed;
        valid_ms := valid_ms || (slice_ms * (c + case when b.slices = 1 then 1 else 2 end) - now_ms);
    end loop;
    if not lent then
        asked := array_fill(0::bigint, array[cardinality(names)]);
    end if;
    granted := asked;
    if is_news or 0 < any(asked) then
        for i in 1 .. cardinality(names) loop
            b := known[i];
            slot := b.slice % cardinality(b.used) + 1;
            b.used[slot] := b.used[slot] + asked[i];
            update rate_limit x
            set quota = b.quota, allowed = b.allowed, slice = b.slice, free = b.free, used = b.used,
                observed_at = b.observed_at, raised_at = b.raised_at, held_until = b.held_until, rejections = b.rejections,
                paced_until = b.paced_until
            where x.name = b.name;
        end loop;
    end if;
    if lent then
        wait_ms := 0;
    end if;
end $$;
