-- The ledger's roles. Run it once, as a superuser (or a role that may create roles and give the database away), in the
-- ledger's database, before the first `leadline migrate`:
--
--   psql --dbname leadline --file roles.sql
--
-- It gives nobody a password: set them with `\password leadline_writer`, or let the roles log in with certificates. What
-- each may do is in grants.sql, which `leadline migrate` runs. Roles belong to a whole Postgres server: two ledgers on one
-- server share them.
--
--   leadline_owner      `leadline migrate`, and nothing else: owns every table, view and function
--   leadline_inference  the service
--   leadline_writer     the service
--   leadline_operator   the command `leadline`
--   leadline_auditor    people and dashboards: reads the views
--
-- The receiver does not use the ledger.
do $$
declare
    role text;
begin
    foreach role in array array['leadline_owner', 'leadline_inference', 'leadline_writer', 'leadline_operator',
                                'leadline_auditor'] loop
        if not exists (select from pg_roles where rolname = role) then
            execute format('create role %I login', role);
        end if;
    end loop;
    execute format('alter database %I owner to leadline_owner', current_database());
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to leadline_inference, leadline_writer, leadline_operator, leadline_auditor',
                   current_database());
end $$;
