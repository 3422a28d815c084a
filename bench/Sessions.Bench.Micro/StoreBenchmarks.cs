using BenchmarkDotNet.Attributes;
using static System.FormattableString;

namespace Sessions.Bench.Micro;

/// <summary>What a store does for a request, on sessions of some length, one after the other.</summary>
[MemoryDiagnoser]
[InvocationCount(Invocations), WarmupCount(3), IterationCount(10)]
public class StoreBenchmarks
{
    private const int Invocations = 8192;
    private const int Sessions = 1000;
    private const int Turns = 20;

    private static readonly string[] Ids = [.. Enumerable.Range(0, Sessions).Select(i => Invariant($"session-{i:D4}"))];

    private string _folder = "";
    private ISessionStore? _store;
    private int _next;

    [Params("memory", "sqlite")]
    public string Store { get; set; } = "";

    // Anew each time: the sessions grow by what is measured.
    [IterationSetup]
    public void Open()
    {
        _folder = Directory.CreateTempSubdirectory("sessions-bench-").FullName;
        _store = Store == "memory" ? Sqlite.Bench.OpenMemory() : Sqlite.Bench.Open(Path.Combine(_folder, "sessions.db"));
        Task.WhenAll(Ids.Select(async id =>
        {
            for (var i = 0; i < Turns; i++)
            {
                await Sqlite.Bench.AppendAsync(_store, id);
            }
        })).GetAwaiter().GetResult();
    }

    [IterationCleanup]
    public void Close()
    {
        (_store as IAsyncDisposable)?.DisposeAsync().AsTask().GetAwaiter().GetResult();
        Directory.Delete(_folder, recursive: true);
    }

    [Benchmark(Description = "a turn: begin with 20 turns before, commit")]
    public Task Turn() => Sqlite.Bench.AppendAsync(_store!, NextId(), historyTurns: Turns);

    [Benchmark(Description = "get a session")]
    public async Task<object?> Get() => await _store!.OpenAsync(
        new OpenRequest { Session = SessionRef.ById(NextId()), Owner = Owner.Anyone }, CancellationToken.None);

    private string NextId() => Ids[_next = (_next + 1) % Sessions];
}
