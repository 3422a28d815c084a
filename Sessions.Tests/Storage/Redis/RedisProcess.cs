using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using StackExchange.Redis;

namespace Sessions.Tests.Storage.Redis;

/// <summary>A redis-server of the tests' own, on a free port with a folder of its own, gone after them.</summary>
internal sealed class RedisProcess : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly string[] _arguments;
    private Process _process;

    private RedisProcess(int port, string[] arguments)
    {
        Port = port;
        _arguments = ["--port", $"{port}", "--bind", "127.0.0.1", "--dir", _folder.Path, "--save", "", "--databases", "1024",
            "--daemonize", "no", .. arguments];
        _process = Run();
    }

    public int Port { get; }

    public string Address => $"127.0.0.1:{Port}";

    public int Id => _process.Id;

    /// <summary>Where redis-server is on this machine, if it is.</summary>
    public static string? Program { get; } = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Select(folder => Path.Combine(folder, "redis-server")).FirstOrDefault(File.Exists);

    /// <summary>Starts one, and waits until it answers.</summary>
    public static async Task<RedisProcess> StartAsync(params string[] arguments)
    {
        if (Program is null && Environment.GetEnvironmentVariable("CI") == "true")
        {
            throw new InvalidOperationException("CI needs redis-server.");
        }

        Assert.SkipWhen(Program is null, "There is no redis-server on this machine.");

        // Somebody else may take the port before it does.
        for (var tries = 1; ; tries++)
        {
            var redis = new RedisProcess(FreePort.Find(), arguments);
            if (await redis.TryAnswerAsync())
            {
                return redis;
            }

            redis.Dispose();
            Assert.True(tries < 5, "redis-server ended at once.");
        }
    }

    /// <summary>Ends it without warning.</summary>
    public void Kill()
    {
        _process.Kill();
        _process.WaitForExit();
    }

    /// <summary>Starts it again on what it has written.</summary>
    public async Task RestartAsync()
    {
        Restart();
        await AnswersAsync();
    }

    /// <summary>The same, without waiting until it has read that.</summary>
    public void Restart()
    {
        _process.Dispose();
        _process = Run();
    }

    /// <summary>Tells it something that it takes in any state, also while it loads.</summary>
    public async Task AskAsync(string command)
    {
        using var connection = new TcpClient();
        await connection.ConnectAsync(IPAddress.Loopback, Port, TestContext.Current.CancellationToken);
        using var stream = connection.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes($"{command}\r\n"), TestContext.Current.CancellationToken);
        using var reader = new StreamReader(stream);
        Assert.Equal("+OK", await reader.ReadLineAsync(TestContext.Current.CancellationToken));
    }

    /// <summary>Stops or continues it, without its connections being closed.</summary>
    public void Signal(string signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", Id.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }

    public async Task<ConnectionMultiplexer> ConnectAsync() =>
        await ConnectionMultiplexer.ConnectAsync($"{Address},allowAdmin=true,abortConnect=true");

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            Kill();
        }

        _process.Dispose();
        _folder.Dispose();
    }

    private Process Run()
    {
        var process = Process.Start(
            new ProcessStartInfo(Program!, _arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        return process;
    }

    private async Task AnswersAsync() => Assert.True(await TryAnswerAsync(), "redis-server ended at once.");

    /// <summary>Waits until it answers, if it does not end.</summary>
    private async Task<bool> TryAnswerAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!await PingAsync(limit.Token))
        {
            if (_process.HasExited)
            {
                return false;
            }

            await Task.Delay(5, limit.Token);
        }

        // It may be somebody else's that answers.
        return !_process.HasExited;
    }

    private async Task<bool> PingAsync(CancellationToken cancellationToken)
    {
        try
        {
            using var client = new TcpClient();
            await client.ConnectAsync(IPAddress.Loopback, Port, cancellationToken);
            await client.GetStream().WriteAsync("PING\r\n"u8.ToArray(), cancellationToken);
            var answer = new byte[5];
            await client.GetStream().ReadExactlyAsync(answer, cancellationToken);
            return answer.AsSpan().SequenceEqual("+PONG"u8);
        }
        catch (Exception e) when (e is SocketException or IOException)
        {
            return false;
        }
    }
}
