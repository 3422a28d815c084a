using Sessions.ServiceDefaults;
using static System.FormattableString;

namespace Sessions.Bench.Load;

/// <summary>
/// Our server on each store and the limits, run in turn, a few seconds each, round after round, so that a change of the machine's mood
/// meets all of them.
/// </summary>
internal sealed class LoadRun(Options options, string folder, CancellationToken cancellationToken)
{
    private const string OneByOne = "sqlite, one commit per turn";
    private const string PlainLoop = "SQLite loop, HTTP";
    private const string Driver = "Redis driver, HTTP";
    private const string DriverAlone = "Redis driver alone";
    private const string NpgsqlAlone = "Npgsql alone";
    private const string TwoReplicas = "redis, 2 replicas";

    private readonly Requests _requests = new(options.Sessions);
    private readonly Generator _generator = new(options.Connections, cancellationToken);
    private readonly List<ServerProcess> _processes = [];
    private readonly List<Target> _stores = [];
    private readonly Dictionary<string, Target> _targets = [];
    private readonly Dictionary<string, int> _bytes = [];

    public async Task RunAsync()
    {
        try
        {
            await StartAsync();
            var results = new Results();
            for (var round = -options.WarmUps; round < options.Rounds; round++)
            {
                foreach (var workload in options.WorkloadNames)
                {
                    // Each round begins with another one: what comes after what must not matter.
                    var runs = Runs(workload).ToList();
                    for (var i = 0; i < runs.Count; i++)
                    {
                        var (name, run) = runs[(i + round + options.WarmUps) % runs.Count];
                        await Console.Error.WriteLineAsync($"round {round + 1} of {options.Rounds}: {workload}, {name}");
                        var measured = run();
                        cancellationToken.ThrowIfCancellationRequested();
                        if (round >= 0)
                        {
                            results.Add(workload, name, measured);
                        }
                    }
                }
            }

            results.Print(options.Connections, Comparisons());
            PrintMemory();
        }
        finally
        {
            _processes.ForEach(process => process.Dispose());
        }
    }

    private async Task StartAsync()
    {
        await AddAsync(Limits.Bare, Start(ServerProcess.Self("serve", Limits.Bare, "")));
        foreach (var store in options.StoreTypes)
        {
            switch (store)
            {
                case StorageType.Memory:
                    // It fills within seconds of queries: none is to be refused for want of room.
                    _stores.Add(await AddAsync("memory", StartApi("memory", ("LIMITS__STORED_BYTES", "0"))));
                    break;
                case StorageType.Sqlite:
                    _stores.Add(await AddAsync("sqlite", StartApi("sqlite", ("SESSIONS__DB_PATH", Path.Combine(folder, "sessions.db")))));
                    _stores.Add(await AddAsync(OneByOne,
                        Start(ServerProcess.Self("serve", Limits.OneByOne, Path.Combine(folder, "one-by-one.db")))));
                    await AddAsync(PlainLoop, Start(ServerProcess.Self("serve", Limits.Sqlite, Path.Combine(folder, "plain.db"))));
                    break;
                case StorageType.Redis:
                    await StartRedisAsync();
                    break;
                case StorageType.Postgres:
                    await StartPostgresAsync();
                    break;
            }
        }

        foreach (var store in _stores)
        {
            await Console.Error.WriteLineAsync($"{options.Sessions} sessions with {Requests.Turns} turns each: {store.Name}");
            var filled = _generator.RunAll(store, _requests.ToApi(Requests.Query, options.Connections), Requests.Turns);
            if (filled.Failures > 0)
            {
                throw new InvalidOperationException($"{store.Name}: {filled.Failures} queries failed, one with: {filled.Failure}");
            }
        }

        foreach (var workload in options.WorkloadNames)
        {
            using var asked = Connection.Ask(_stores[0].Addresses[0], _requests.OneToApi(workload, session: 0));
            _bytes[workload] = asked.ContentLength;
        }
    }

    private async Task StartRedisAsync()
    {
        if (ServerProcess.Redis() is not { } redis)
        {
            await Console.Error.WriteLineAsync("There is no redis-server on this machine: Redis is left out.");
            return;
        }

        var address = (await AddAsync("redis-server", Start(redis))).Addresses[0].ToString();
        (string, string)[] connection = [("ConnectionStrings__cache", address)];
        ServerProcess[] replicas = [StartApi("redis", connection), StartApi("redis", connection)];
        _stores.Add(await AddAsync("redis", replicas[0]));
        await AddAsync(TwoReplicas, replicas);
        await AddAsync(Driver, Start(ServerProcess.Self("serve", Limits.Redis, address)));
    }

    private async Task StartPostgresAsync()
    {
        if (ServerProcess.Postgres(folder) is not { } postgres)
        {
            await Console.Error.WriteLineAsync("There is no PostgreSQL on this machine: it is left out.");
            return;
        }

        var address = (await AddAsync("postgres, the server", Start(postgres))).Addresses[0];
        var connection = Invariant($"Host=127.0.0.1;Port={address.Port};Username=sessions;Database=postgres");
        _stores.Add(await AddAsync("postgres", StartApi("postgres", ("ConnectionStrings__postgres", connection))));
        await AddAsync(NpgsqlAlone, Start(ServerProcess.Self("serve", Limits.Postgres, $"{connection};Timeout=60;Command Timeout=60")));
    }

    private async Task<Target> AddAsync(string name, params ServerProcess[] processes) =>
        _targets[name] = new(name, processes, await Task.WhenAll(processes.Select(process => process.AddressAsync(cancellationToken))));

    private ServerProcess Start(ServerProcess process)
    {
        _processes.Add(process);
        return process;
    }

    private ServerProcess StartApi(string store, params (string, string)[] settings) =>
        Start(ServerProcess.Api(folder, [("SESSIONS__STORAGE_TYPE", store), .. settings]));

    // What is run in turn for a workload.
    private IEnumerable<(string Name, Func<Measurement> Run)> Runs(string workload)
    {
        yield return ToLimit(Limits.Bare, Limits.Bare, workload);
        foreach (var store in _stores.Where(store => store.Name != OneByOne || workload == Requests.Query))
        {
            yield return ToApi(store.Name, workload);
        }

        if (_targets.ContainsKey(NpgsqlAlone) && workload != Requests.Get)
        {
            yield return (NpgsqlAlone, () => RunAlone(NpgsqlAlone, $"/postgres/{workload}"));
        }

        if (workload != Requests.Query)
        {
            yield break;
        }

        if (_targets.ContainsKey(PlainLoop))
        {
            yield return ToLimit(PlainLoop, Limits.Sqlite, workload);
        }

        if (_targets.ContainsKey(Driver))
        {
            yield return ToApi(TwoReplicas, workload);
            yield return ToLimit(Driver, Limits.Redis, workload);
            yield return (DriverAlone, () => RunAlone(Driver, "/redis/alone"));
        }
    }

    private (string, Func<Measurement>) ToApi(string name, string workload)
    {
        var requests = _requests.ToApi(workload, options.Connections);
        return (name, () => _generator.Run(_targets[name], requests, options.Run));
    }

    private (string, Func<Measurement>) ToLimit(string name, string path, string workload)
    {
        var requests = _requests.ToLimit($"/{path}", workload, options.Connections, _bytes[workload]);
        return (name, () => _generator.Run(_targets[name], requests, options.Run));
    }

    private Measurement RunAlone(string name, string path)
    {
        var target = _targets[name];
        var before = target.ProcessorTime;
        var request = Requests.NewGet(Invariant($"{path}/{options.Connections}/{(int)options.Run.TotalMilliseconds}"));
        using var asked = Connection.Ask(target.Addresses[0], request);
        var answer = asked.Answer;
        var json = answer.AsSpan(answer.IndexOf('{'), asked.ContentLength);
        var measured = System.Text.Json.JsonSerializer.Deserialize(json, LimitJson.Default.Measurement)!;
        return measured with
        {
            ServerMicroseconds = (target.ProcessorTime - before).TotalMicroseconds / (measured.PerSecond * options.Seconds),
        };
    }

    private IEnumerable<Comparison> Comparisons()
    {
        foreach (var workload in options.WorkloadNames)
        {
            foreach (var store in _stores)
            {
                yield return new(workload, store.Name, Limits.Bare);
            }

            yield return new(workload, "postgres", NpgsqlAlone);
            yield return new(workload, "postgres", "sqlite");
            yield return new(workload, "postgres", "redis");
        }

        if (!options.WorkloadNames.Contains(Requests.Query))
        {
            yield break;
        }

        (string, string)[] pairs =
        [
            ("sqlite", OneByOne), ("sqlite", PlainLoop), ("sqlite", "memory"),
            ("redis", "memory"), ("redis", Driver), ("redis", DriverAlone),
            (TwoReplicas, "redis"), (TwoReplicas, "memory"), (Driver, "memory"),
        ];
        foreach (var (ours, limit) in pairs)
        {
            yield return new(Requests.Query, ours, limit);
        }
    }

    private void PrintMemory()
    {
        Console.WriteLine("| process | resident at the end, MB |");
        Console.WriteLine("|---|---:|");
        foreach (var target in _targets.Values.Where(target => target.Name != TwoReplicas))
        {
            Console.WriteLine(Invariant($"| {target.Name} | {target.Processes[0].ResidentBytes / 1e6:N0} |"));
        }

        Console.WriteLine();
    }
}
