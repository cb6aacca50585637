-- Budgets: allowances that the whole fleet shares. Replicas borrow small lots; time is the database's.
--
-- A rolling window is cut into slices. What is quota_used in a slice may be used in it or in the next one, and counts until
-- every window that could hold its use is over: `slices` + 3 slices (the next one, the two half ones at the ends, and one
-- for calls that travel at different speeds). So the sum over any window is within `allowed` by construction, whoever
-- dies. A window of one slice is a day of the calendar, in UTC.

create table rate_limit (
    name       text primary key,
    window_ms  bigint not null check (window_ms > 0),
    slices     integer not null check (slices > 0),
    share      float8 not null check (share > 0 and share <= 1),
    quota      bigint not null check (quota >= 0),
    allowed    bigint not null check (allowed >= 0),
    slice      bigint not null default 0,
    free       bigint not null default 0,
    used       bigint[] not null,
    observed_at   timestamptz,
    raised_at   timestamptz not null default clock_timestamp(),
    held_until timestamptz,
    rejections   bigint not null default 0
);

comment on table rate_limit is 'shared allowances: calls to HubSpot, requests and tokens of a model, money of a playbook';
comment on column rate_limit.share is 'the part of quota that the fleet takes at most; the rest is left to others';
comment on column rate_limit.quota is 'what the other side allows within a window: as configured, or as its answers say';
comment on column rate_limit.allowed is 'what the fleet takes within a window, now: less than its share while others are busy';
comment on column rate_limit.slice is 'the number of the newest slice, counted from 1970';
comment on column rate_limit.free is 'what was left when the newest slice began';
comment on column rate_limit.used is 'a ring: what was quota_used in each slice; two windows of it, for late news';
comment on column rate_limit.observed_at is 'when the other side last said something about it';
comment on column rate_limit.held_until is 'after a refusal (429) nobody borrows until then';
comment on column rate_limit.rejections is 'how often the other side refused: each one is a defect of the rate_limit, or somebody else''s burst';

-- A part of a quota. 190 * 0.8 is a little less than 152 to a machine.
create function share_of_quota(quota bigint, share float8) returns bigint language sql immutable as $$
    select floor(quota * share + 1e-6)::bigint
$$;

-- Makes a rate_limit known. What is learnt from answers outweighs what is configured.
create function define_rate_limit(a_name text, a_window_ms bigint, a_slices integer, a_share float8, a_quota bigint)
returns void language sql as $$
    insert into rate_limit as b (name, window_ms, slices, share, quota, allowed, used)
    values (a_name, a_window_ms, a_slices, a_share, a_quota, share_of_quota(a_quota, a_share),
            array_fill(0::bigint, array[2 * a_slices]))
    on conflict (name) do update
    set share = excluded.share,
        quota = case when b.observed_at is null then excluded.quota else b.quota end,
        allowed = share_of_quota(case when b.observed_at is null then excluded.quota else b.quota end, excluded.share)
    where b.share <> excluded.share or (b.observed_at is null and b.quota <> excluded.quota)
$$;

-- What was quota_used in the slices (above, up to `upto`].
create function quota_used(b rate_limit, above bigint, upto bigint) returns bigint language plpgsql immutable as $$
declare
    total bigint := 0;
    ring  integer := cardinality(b.used);
begin
    -- A loop counts in integers; slices since 1970 are more.
    for k in greatest(above - b.slice + 1, 1 - ring)::integer .. least(upto - b.slice, 0)::integer loop
        total := total + b.used[(b.slice + k) % ring + 1];
    end loop;
    return total;
end $$;

-- What an answer said. Others use the allowance too: what is not ours of what is gone is theirs.
create function observe_rate_limit(b rate_limit, remaining bigint, age_ms float8, now_ms float8) returns rate_limit language plpgsql as $$
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
        target := greatest(1, least(share_of_quota(b.quota, b.share), b.quota - others - share_of_quota(b.quota, 0.05) - 1));
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

-- Borrows from several rate_limits at once: of each at least `need` and at most `want`, or nothing of any. `lane` is the part
-- of the rate_limits that this lane may use up. On the same way comes the news: what answers said of quota and remaining
-- (null: nothing) and how long ago they were asked for; how long nobody may borrow after a refusal; and what was given
-- back, by rate_limit (1 is the first name) and slice (negative: more was used than quota_used).
create function acquire_quota(
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
        free_ := share_of_quota(b.allowed, lane) - quota_used(b, c - span, c);
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
                observed_at = b.observed_at, raised_at = b.raised_at, held_until = b.held_until, rejections = b.rejections
            where x.name = b.name;
        end loop;
    end if;
    if lent then
        wait_ms := 0;
    end if;
end $$;

-- How the rate_limits stand, for people.
create view rate_limits as
select b.name, b.quota, b.share, b.allowed,
       quota_used(b, now_slice - case when b.slices = 1 then 1 else b.slices end, now_slice) as used,
       b.window_ms, b.observed_at, b.rejections,
       case when b.held_until > clock_timestamp() then b.held_until end as held_until
from rate_limit b,
     lateral (select floor(extract(epoch from clock_timestamp()) * 1000 / (b.window_ms::float8 / b.slices))::bigint
                     as now_slice) as now;
