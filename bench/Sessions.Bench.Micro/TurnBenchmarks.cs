using BenchmarkDotNet.Attributes;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sessions.ServiceDefaults;
using static System.FormattableString;

namespace Sessions.Bench.Micro;

/// <summary>A whole turn but for HTTP: the gate, the store in memory, the agent that is built in, with 20 turns before.</summary>
[MemoryDiagnoser]
[InvocationCount(Invocations), WarmupCount(3), IterationCount(10)]
public class TurnBenchmarks
{
    private const int Invocations = 8192;
    private const int Sessions = 1000;

    private TurnCommand[] _commands = [];
    private WebApplication? _app;
    private TurnRunner? _turns;
    private int _next;

    // Anew each time: the sessions grow by what is measured.
    [IterationSetup]
    public void Open()
    {
        var builder = WebApplication.CreateBuilder();
        builder.Logging.ClearProviders();
        builder.AddSettings(ApiSettings.Sections);
        builder.AddHttp(port: null).AddAuth().AddSessions().AddTurns();
        _app = builder.Build();
        _turns = _app.Services.GetRequiredService<TurnRunner>();
        var agent = _app.Services.GetRequiredService<AgentCatalog>().Get(null);
        _commands = [.. Enumerable.Range(0, Sessions).Select(i => new TurnCommand
        {
            Session = SessionRef.ById(Invariant($"session-{i:D4}")),
            Owner = Owner.Claiming(Invariant($"user-{i / 10:D4}")),
            Input = Items.OfText(
                Invariant($"I prefer the quiet desk number {i:D4} near the window: what do you recommend for the long afternoon?")),
            Agent = agent,
            Options = AnswerOptions.None,
        })];
        for (var i = 0; i < 20 * Sessions; i++)
        {
            Turn().GetAwaiter().GetResult();
        }
    }

    [IterationCleanup]
    public void Close() => _app!.DisposeAsync().AsTask().GetAwaiter().GetResult();

    [Benchmark(Description = "a whole turn")]
    public Task Turn() => _turns!.RunAsync(_commands[_next = (_next + 1) % Sessions], null, CancellationToken.None);
}
