using System.Diagnostics;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using ModelContextProtocol;
using ModelContextProtocol.Server;

namespace Sessions.Tests;

/// <summary>
/// A real tool server, the official SDK's own: by HTTP, and, as this assembly is its program, by standard input and output. Its tools:
/// <c>echo</c> answers, <c>fail</c> fails, <c>hang</c> never ends, <c>large</c> gives back 10 MiB.
/// </summary>
internal sealed class TestTools : IAsyncDisposable
{
    private readonly TaskCompletionSource _hanging = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<string> _calls = [];
    private int _forgotten;
    private WebApplication _app;

    private TestTools(int port) => _app = Create($"http://127.0.0.1:{port}");

    /// <summary>What <c>large</c> gives back.</summary>
    public const int LargeBytes = 10 << 20;

    public string Url => _app.Urls.Single() + "/mcp";

    /// <summary>The header <c>X-Tools-Key</c> as it came last.</summary>
    public string? Key { get; private set; }

    /// <summary>Whether all that was sent to it had its length with it.</summary>
    public bool HadLengths { get; private set; } = true;

    /// <summary>Ends when <c>hang</c> was called.</summary>
    public Task Hanging => _hanging.Task;

    /// <summary>The tools that were called, in order.</summary>
    public IReadOnlyList<string> Calls
    {
        get
        {
            lock (_calls)
            {
                return [.. _calls];
            }
        }
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Starts it, on a port of <see cref="FreePort"/> where it is to be started again.</summary>
    public static async Task<TestTools> StartAsync(int port = 0)
    {
        var tools = new TestTools(port);
        await tools._app.StartAsync(Cancel);
        return tools;
    }

    /// <summary>The settings that give them to an agent, as the server <c>tools</c>.</summary>
    public IEnumerable<(string Key, string Value)> Of(string agent) => [($"agents:{agent}:tools:tools:url", Url)];

    /// <summary>The settings that give an agent the same tools by a program of its own.</summary>
    public static IEnumerable<(string Key, string Value)> LocalOf(string agent)
    {
        string[] args = ["exec", typeof(TestTools).Assembly.Location, TestToolsProgram.Argument];
        return
        [
            ($"agents:{agent}:tools:local:command", "dotnet"),
            ($"agents:{agent}:tools:local:args", string.Join(',', args)),
        ];
    }

    /// <summary>Whether a program of <see cref="LocalOf"/> does nothing any more.</summary>
    public static bool IsFrozen() => Directory.EnumerateDirectories("/proc")
        .Where(folder => ServiceProcess.ReadOf(folder, "cmdline").Contains(TestToolsProgram.Argument, StringComparison.Ordinal))
        .Select(folder => ServiceProcess.ReadOf(folder, "stat"))

        // Behind its name in brackets: how it is, and who started it.
        .Any(stat => stat[(stat.LastIndexOf(')') + 1)..].StartsWith($" T {Environment.ProcessId} ", StringComparison.Ordinal));

    /// <summary>The next request is answered as by a server that was started anew, and knows nothing of those before.</summary>
    public void Forget() => Interlocked.Exchange(ref _forgotten, 1);

    /// <summary>Stops it, as a server does that is started anew.</summary>
    public async Task StopAsync() => await _app.StopAsync(Cancel);

    /// <summary>Starts it again where it was.</summary>
    public async Task StartAgainAsync()
    {
        var url = _app.Urls.Single();
        await _app.DisposeAsync();
        _app = Create(url);
        await _app.StartAsync(Cancel);
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private WebApplication Create(string url)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls(url);
        builder.Services.AddMcpServer().WithHttpTransport().WithTools(Tools(Called));
        var app = builder.Build();
        app.Use((http, next) =>
        {
            Key = http.Request.Headers["X-Tools-Key"];
            HadLengths &= !HttpMethods.IsPost(http.Request.Method) || http.Request.ContentLength is not null;
            if (Interlocked.Exchange(ref _forgotten, 0) == 0)
            {
                return next(http);
            }

            http.Response.StatusCode = StatusCodes.Status404NotFound;
            return Task.CompletedTask;
        });
        app.MapMcp("/mcp");
        return app;
    }

    private void Called(string tool)
    {
        lock (_calls)
        {
            _calls.Add(tool);
        }

        if (tool == "hang")
        {
            _hanging.TrySetResult();
        }
    }

    internal static IEnumerable<McpServerTool> Tools(Action<string> called) =>
    [
        Tool("echo", (int round) =>
        {
            called("echo");
            return $"echo {round}";
        }),
        Tool("fail", string (int round) =>
        {
            called("fail");
            throw new McpException($"no luck with {round}");
        }),
        Tool("hang", async (int round, CancellationToken cancellationToken) =>
        {
            called("hang");
            await Task.Delay(Timeout.Infinite, cancellationToken);
            return round;
        }),
        Tool("large", (int round) =>
        {
            called("large");
            return new string((char)('a' + (round % 26)), LargeBytes);
        }),
    ];

    internal static McpServerTool Tool(string name, Delegate run) =>
        McpServerTool.Create(run, new McpServerToolCreateOptions { Name = name, Description = $"Does {name}." });
}

/// <summary>
/// What runs in the process of a local tool server. It has one more tool, <c>freeze</c>: then the process does nothing any more.
/// </summary>
internal static class TestToolsProgram
{
    /// <summary>What starts this instead of tests.</summary>
    public const string Argument = "be-test-tools";

    private static McpServerTool Freeze => TestTools.Tool("freeze", async (int round, CancellationToken cancellationToken) =>
    {
        using var stop = Process.Start("kill", ["-STOP", $"{Environment.ProcessId}"]);
        await Task.Delay(Timeout.Infinite, cancellationToken);
        return round;
    });

    public static async Task<int> RunAsync()
    {
        var builder = Host.CreateEmptyApplicationBuilder(null);
        builder.Services.AddMcpServer().WithStdioServerTransport().WithTools([.. TestTools.Tools(_ => { }), Freeze]);
        using var host = builder.Build();
        await host.RunAsync();
        return 0;
    }
}
