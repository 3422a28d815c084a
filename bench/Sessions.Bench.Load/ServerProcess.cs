using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;

namespace Sessions.Bench.Load;

/// <summary>A server as a process of its own, ended when this is disposed of.</summary>
internal sealed partial class ServerProcess : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly Process _process;
    private readonly TaskCompletionSource<IPEndPoint> _listening = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<string> _output = [];
    private int _port;

    private ServerProcess(string program, IEnumerable<string> arguments, IEnumerable<(string Key, string Value)> environment)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };

        // Neither a collector nor an address of somebody else's.
        foreach (var key in start.Environment.Keys
            .Where(key => key.StartsWith("OTEL_", StringComparison.Ordinal) || key.StartsWith("ASPNETCORE_", StringComparison.Ordinal))
            .ToList())
        {
            start.Environment.Remove(key);
        }

        // Nor does any of them watch the folder in which the others write.
        start.Environment["DOTNET_hostBuilder__reloadConfigOnChange"] = "false";
        foreach (var (key, value) in environment)
        {
            start.Environment[key] = value;
        }

        _process = new Process { StartInfo = start, EnableRaisingEvents = true };
        _process.OutputDataReceived += (_, line) => Read(line.Data);
        _process.ErrorDataReceived += (_, line) => Read(line.Data);
        _process.Exited += (_, _) => _listening.TrySetException(
            new InvalidOperationException($"{program} {string.Join(' ', arguments)} has ended:\n{string.Join('\n', _output)}"));
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>What it has in memory at this moment.</summary>
    public long ResidentBytes
    {
        get
        {
            _process.Refresh();
            return _process.WorkingSet64;
        }
    }

    public TimeSpan ProcessorTime
    {
        get
        {
            _process.Refresh();
            return _process.TotalProcessorTime;
        }
    }

    /// <summary>Our server, as it was built beside this program, or the program that <c>SESSIONS_API</c> names.</summary>
    public static ServerProcess Api(string folder, params IEnumerable<(string Key, string Value)> settings) =>
        Environment.GetEnvironmentVariable("SESSIONS_API") is { Length: > 0 } program
            ? Api(program, [], folder, settings)
            : Api("dotnet", [Built("Sessions.Api.dll")], folder, settings);

    /// <summary>One of our server's commands.</summary>
    public static ServerProcess Api(string folder, IEnumerable<string> command, params IEnumerable<(string Key, string Value)> settings) =>
        Environment.GetEnvironmentVariable("SESSIONS_API") is { Length: > 0 } program ? Api(program, command, folder, settings)
            : Api("dotnet", [Built("Sessions.Api.dll"), .. command], folder, settings);

    /// <summary>Our server, built somehow else.</summary>
    public static ServerProcess Api(
        string program, IEnumerable<string> arguments, string folder, params IEnumerable<(string Key, string Value)> settings)
    {
        var config = Path.Combine(folder, "config.yaml");
        File.WriteAllText(config, "");
        return new(program, arguments, [("SESSIONS_CONFIG", config), ("ASPNETCORE_URLS", "http://127.0.0.1:0"), .. settings]);
    }

    /// <summary>This program as one of the limits.</summary>
    public static ServerProcess Self(params IEnumerable<string> arguments) => new("dotnet", OfSelf(arguments), []);

    /// <summary>What <c>dotnet</c> is told to run this program, with the settings of the runtime that our server has.</summary>
    public static string[] OfSelf(params IEnumerable<string> arguments) =>
        ["exec", "--runtimeconfig", Built("Sessions.Api.runtimeconfig.json"), Built("Sessions.Bench.Load.dll"), .. arguments];

    /// <summary>A redis-server that writes nothing to the disk; <see langword="null"/> where none is installed.</summary>
    public static ServerProcess? Redis()
    {
        var program = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
            .Select(folder => Path.Combine(folder, "redis-server")).FirstOrDefault(File.Exists);
        return program is null
            ? null
            : new(program, ["--port", $"{FreeAddress().Port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], []);
    }

    /// <summary>
    /// A PostgreSQL whose commits are on the disk, as it is by itself; <see langword="null"/> where none is installed. It refuses to be
    /// root.
    /// </summary>
    public static ServerProcess? Postgres(string folder)
    {
        const string Versions = "/usr/lib/postgresql";
        var programs = !Directory.Exists(Versions) ? null : Directory.GetDirectories(Versions)
            .Select(version => Path.Combine(version, "bin")).Where(bin => File.Exists(Path.Combine(bin, "initdb"))).Max();
        if (programs is null)
        {
            return null;
        }

        var data = Directory.CreateDirectory(Path.Combine(folder, "postgres")).FullName;
        string[] user = [];
        if (Environment.UserName == "root")
        {
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
            Run(["chown", "postgres", data]);
        }

        Run([.. user, Path.Combine(programs, "initdb"), "-D", data, "-U", "sessions", "--auth=trust", "-E", "UTF8", "--locale=C"]);
        string[] command =
        [
            .. user, Path.Combine(programs, "postgres"), "-D", data, "-p", $"{FreeAddress().Port}", "-h", "127.0.0.1",
            "-c", "unix_socket_directories=", "-c", "max_connections=300", "-c", "shared_buffers=256MB", "-c", "synchronous_commit=on",
        ];
        return new(command[0], command[1..], []);

        static void Run(string[] command)
        {
            using var process = Process.Start(new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true })!;
            process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            if (process.ExitCode != 0)
            {
                throw new InvalidOperationException($"{string.Join(' ', command)} ended with {process.ExitCode}.");
            }
        }
    }

    public static IPEndPoint FreeAddress()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return (IPEndPoint)listener.LocalEndpoint;
    }

    /// <summary>Where it listens, once it says so.</summary>
    public Task<IPEndPoint> AddressAsync(CancellationToken cancellationToken) => _listening.Task.WaitAsync(Patience, cancellationToken);

    /// <summary>Waits for its end.</summary>
    public async Task EndAsync(CancellationToken cancellationToken)
    {
        await _process.WaitForExitAsync(cancellationToken);
        if (_process.ExitCode != 0)
        {
            throw new InvalidOperationException($"It has ended with {_process.ExitCode}:\n{string.Join('\n', _output)}");
        }
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
        }

        _process.WaitForExit();
        _process.Dispose();
    }

    private static string Built(string file) => Path.Combine(AppContext.BaseDirectory, file);

    private void Read(string? line)
    {
        lock (_output)
        {
            if (line is null)
            {
                return;
            }

            _output.Add(line);
        }

        // Redis and PostgreSQL name their port before they say that they are ready.
        if (Port.Match(line) is { Success: true } port)
        {
            _port = int.Parse(port.Groups[1].ValueSpan, CultureInfo.InvariantCulture);
        }

        if (Listening.IsMatch(line))
        {
            _listening.TrySetResult(new IPEndPoint(IPAddress.Loopback, _port));
        }
    }

    [GeneratedRegex(@"(?:[pP]ort[:= ] ?|http://127\.0\.0\.1:)(\d+)")]
    private static partial Regex Port { get; }

    [GeneratedRegex("Now listening on:|[Rr]eady to accept connections")]
    private static partial Regex Listening { get; }
}
