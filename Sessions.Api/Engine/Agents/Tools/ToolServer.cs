using System.ComponentModel;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using ModelContextProtocol;
using ModelContextProtocol.Client;
using ModelContextProtocol.Protocol;

namespace Sessions.Api.Engine.Agents.Tools;

/// <summary>What a tool gave back.</summary>
/// <param name="Text">Its result, or why it failed.</param>
/// <param name="Failed">Whether it failed.</param>
internal readonly record struct ToolResult(string Text, bool Failed);

/// <summary>A tool server can't be had just now.</summary>
/// <param name="server">Its name.</param>
/// <param name="innerException">What its library said.</param>
internal sealed class ToolServerException(string server, Exception? innerException)
    : Exception($"The tool server '{server}' can't be reached.", innerException)
{
    /// <summary>Its name.</summary>
    public string Server { get; } = server;
}

/// <summary>
/// One tool server of an agent: connected when it is first needed, and again where the connection has gone. Which tools it has is asked
/// again from time to time, which also shows whether it is still there.
/// </summary>
internal sealed partial class ToolServer : IAsyncDisposable
{
    // Text in JSON may take six times its bytes, and there is more around it; lists of tools are long by themselves.
    private const int ExtraBytes = 1 << 20;

    private static readonly TimeSpan Fresh = TimeSpan.FromSeconds(30);

    // One that does not say in time what it has is connected anew: a program that hangs would hang for ever.
    private static readonly TimeSpan ListAgain = TimeSpan.FromSeconds(5);

    // It is told that it is no longer needed, and may not answer; a program is killed after five seconds.
    private static readonly TimeSpan EndTimeout = TimeSpan.FromSeconds(6);

    private readonly string _agent;
    private readonly ToolServerSettings _settings;
    private readonly Func<IClientTransport> _open;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;

    // A program has to be started first, and may have to be fetched.
    private readonly TimeSpan _connectTimeout;
    private readonly SemaphoreSlim _connecting = new(1);
    private McpClient? _client;
    private List<McpClientTool>? _tools;
    private long? _listedAt;
    private long? _failedAt;
    private Exception? _failure;
    private int _calling;

    /// <summary>Makes it, without connecting.</summary>
    /// <param name="agent">The agent's name.</param>
    /// <param name="name">Its own.</param>
    /// <param name="settings">Its settings.</param>
    /// <param name="configuration">Where the values of environment variables come from.</param>
    /// <param name="http">Makes the HTTP client that <see cref="HttpClientName"/> names.</param>
    /// <param name="time">The clock.</param>
    /// <param name="logger">Told what clients are not.</param>
    public ToolServer(
        string agent, string name, ToolServerSettings settings, IConfiguration configuration, IHttpClientFactory http, TimeProvider time,
        ILogger logger)
    {
        (_agent, Name, _settings, _time, _logger) = (agent, name, settings, time, logger);
        _connectTimeout = TimeSpan.FromSeconds(settings.Url is null ? 60 : 10);
        _open = settings.Url is { } url
            ? () => new HttpClientTransport(
                new HttpClientTransportOptions
                {
                    Endpoint = url,
                    Name = name,
                    ConnectionTimeout = _connectTimeout,
                    MaxReconnectionAttempts = 0,
                    EnableStandaloneGetStream = false,
                    AdditionalHeaders = settings.Headers.ToDictionary(
                        header => header.Key, header => ToolServerSettings.Expand(header.Value, configuration)),
                },
                http.CreateClient(HttpClientName(agent, name)),
                NullLoggerFactory.Instance,
                ownsHttpClient: true)
            : () => new StdioClientTransport(
                new StdioClientTransportOptions
                {
                    Command = settings.Command!,
                    Arguments = [.. settings.Args],
                    Name = name,
                    ShutdownTimeout = TimeSpan.FromSeconds(5),

                    // This server's own secrets are not for it.
                    InheritEnvironmentVariables = false,
                    EnvironmentVariables = EnvironmentOf(settings, configuration),
                },
                NullLoggerFactory.Instance);
    }

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>The tools that it had when it was asked last; of one that was never asked, those that the agent may call.</summary>
    public IReadOnlyList<AgentTool> Tools => _tools is { } tools
        ? [.. tools.Select(tool => new AgentTool(Name, tool.Name, tool.Description is { Length: > 0 } description ? description : null))]
        : [.. _settings.Allowed.Select(tool => new AgentTool(Name, tool, null))];

    /// <summary>Why it could not be had last; <see langword="null"/>: it could, or was not needed yet.</summary>
    public string? Failure => _failure is { } failure ? ReasonOf(failure) : null;

    /// <summary>When another attempt is made after one that has failed.</summary>
    public static TimeSpan RetryAfter { get; } = TimeSpan.FromSeconds(5);

    /// <summary>The name of its HTTP client.</summary>
    public static string HttpClientName(string agent, string name) => $"tools {agent} {name}";

    /// <summary>How many bytes an answer of its may have.</summary>
    public static int MaxBytes(ToolServerSettings settings) => (int)Math.Min(int.MaxValue, (6L * settings.ResultBytes) + ExtraBytes);

    /// <summary>Connects, if it is not connected, and gives the tools that the agent may call.</summary>
    /// <exception cref="ToolServerException">It can't be reached.</exception>
    public async ValueTask<IReadOnlyList<McpClientTool>> ConnectAsync(CancellationToken cancellationToken)
    {
        if (_tools is { } known && IsFresh)
        {
            return known;
        }

        await _connecting.WaitAsync(cancellationToken);
        try
        {
            if (_tools is { } meanwhile && IsFresh)
            {
                return meanwhile;
            }

            // Those who wait behind an attempt that has failed are not to make the next one.
            return _failedAt is { } failed && _time.GetElapsedTime(failed) < RetryAfter
                ? throw new ToolServerException(Name, _failure)
                : await ConnectNowAsync(cancellationToken);
        }
        finally
        {
            _connecting.Release();
        }
    }

    /// <summary>Looks, without waiting, whether it is there again.</summary>
    public void Probe() => _ = ProbeAsync();

    /// <summary>Runs a tool. What becomes of it is its result: only a turn that ends is an exception.</summary>
    /// <param name="tool">The tool.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="cancellationToken">The turn ends.</param>
    public async ValueTask<ToolResult> CallAsync(
        McpClientTool tool, IReadOnlyDictionary<string, object?> arguments, CancellationToken cancellationToken)
    {
        using var call = new ToolExchange();
        using var limited = new CancellationTokenSource(TimeSpan.FromSeconds(_settings.TimeoutSeconds), _time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limited.Token, call.TooLarge);
        ToolExchange.Current = call;
        Interlocked.Increment(ref _calling);
        try
        {
            // WaitAsync: a server that does not heed a cancellation must not hold up the turn.
            var result = await CallAsync(tool.ProtocolTool.Name, arguments, linked.Token).WaitAsync(linked.Token);
            var text = ToolResults.TextOf(result);
            return Encoding.UTF8.GetByteCount(text) > _settings.ResultBytes ? TooLarge() : new ToolResult(text, result.IsError == true);
        }
        catch (Exception) when (!cancellationToken.IsCancellationRequested && call.TooLarge.IsCancellationRequested)
        {
            return TooLarge();
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested && limited.IsCancellationRequested)
        {
            // It may do nothing any more: the next turn looks.
            Log.Failed(_logger, _agent, Name, tool.ProtocolTool.Name, "it took too long");
            _listedAt = null;
            return new ToolResult(
                FormattableString.Invariant($"The tool did not answer within {_settings.TimeoutSeconds:0.###} s."), Failed: true);
        }
        catch (McpProtocolException e) when (!cancellationToken.IsCancellationRequested)
        {
            // Its own words are for the model, as a result's are.
            return new ToolResult(e.Message, Failed: true);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            // The next turn looks whether it is still there.
            Log.Failed(_logger, _agent, Name, tool.ProtocolTool.Name, ReasonOf((e as ToolServerException)?.InnerException ?? e));
            _listedAt = null;
            return new ToolResult("The tool's server can't be reached.", Failed: true);
        }
        finally
        {
            Interlocked.Decrement(ref _calling);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _client, null) is { } client)
        {
            await EndAsync(client, CancellationToken.None);
        }

        _connecting.Dispose();
    }

    // Again only where nothing can have run: there was no connection, or the server knew nothing of it, as it was started anew.
    private async Task<CallToolResult> CallAsync(
        string name, IReadOnlyDictionary<string, object?> arguments, CancellationToken cancellationToken)
    {
        if (_client is { Completion.IsCompleted: false } && Find(_tools) is { } known)
        {
            try
            {
                return await known.CallAsync(arguments, cancellationToken: cancellationToken);
            }
            catch (HttpRequestException e) when (e.StatusCode == HttpStatusCode.NotFound)
            {
                _listedAt = null;
            }
        }

        var tool = Find(await ConnectAsync(cancellationToken)) ?? throw new ToolServerException(Name, null);
        return await tool.CallAsync(arguments, cancellationToken: cancellationToken);

        McpClientTool? Find(IReadOnlyList<McpClientTool>? tools) => tools?.FirstOrDefault(tool => tool.ProtocolTool.Name == name);
    }

    private static async Task EndAsync(McpClient client, CancellationToken cancellationToken)
    {
        try
        {
            await client.DisposeAsync().AsTask().WaitAsync(EndTimeout, cancellationToken);
        }
        catch (TimeoutException)
        {
            // Its connection goes with this process.
        }
    }

    private async Task ProbeAsync()
    {
        try
        {
            await ConnectAsync(CancellationToken.None);
        }
        catch (ToolServerException)
        {
            // It is as it was: that is told already.
        }
        catch (ObjectDisposedException)
        {
            // The server stops.
        }
    }

    // Without what may be a secret in it.
    private string Address =>
        _settings.Url?.GetComponents(UriComponents.SchemeAndServer | UriComponents.Path, UriFormat.UriEscaped) ?? _settings.Command!;

    // While it works, it is there; a program that does one thing at a time could not say so.
    private bool IsFresh =>
        _client is { Completion.IsCompleted: false } && _listedAt is { } listed
        && (Volatile.Read(ref _calling) > 0 || _time.GetElapsedTime(listed) < Fresh);

    private async Task<IReadOnlyList<McpClientTool>> ConnectNowAsync(CancellationToken cancellationToken)
    {
        // A connection is longer than the call that may have asked for it.
        ToolExchange.Current = null;
        using var limited = new CancellationTokenSource(_connectTimeout);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limited.Token);
        try
        {
            return Keep(await ListAgainAsync(linked.Token) ?? await ListAnewAsync(linked.Token));
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            (_failure, _failedAt, _listedAt) = (limited.IsCancellationRequested ? new TimeoutException() : e, _time.GetTimestamp(), null);
            Log.Unreachable(_logger, _agent, Name, Address, ReasonOf(_failure));
            throw new ToolServerException(Name, _failure);
        }
    }

    // Null: there is no connection, or it is of no more use, as the server was started anew, say.
    private async Task<IList<McpClientTool>?> ListAgainAsync(CancellationToken cancellationToken)
    {
        if (_client is not { Completion.IsCompleted: false } client)
        {
            return null;
        }

        using var limited = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limited.CancelAfter(ListAgain);
        try
        {
            return await client.ListToolsAsync(cancellationToken: limited.Token).AsTask().WaitAsync(limited.Token);
        }
        catch (Exception) when (!cancellationToken.IsCancellationRequested)
        {
            return null;
        }
    }

    private async Task<IList<McpClientTool>> ListAnewAsync(CancellationToken cancellationToken)
    {
        if (Interlocked.Exchange(ref _client, null) is { } old)
        {
            await EndAsync(old, cancellationToken);
        }

        var options = new McpClientOptions
        {
            ClientInfo = new Implementation { Name = "sessions", Version = typeof(ToolServer).Assembly.GetName().Version!.ToString(3) },
            InitializationTimeout = _connectTimeout,
        };
        var client = await McpClient.CreateAsync(_open(), options, NullLoggerFactory.Instance, cancellationToken);
        _client = client;
        return await client.ListToolsAsync(cancellationToken: cancellationToken);
    }

    private List<McpClientTool> Keep(IList<McpClientTool> listed)
    {
        List<McpClientTool> tools =
            [.. listed.Where(tool => _settings.Allowed.Length == 0 || _settings.Allowed.Contains(tool.Name, StringComparer.Ordinal))];
        foreach (var missing in _tools is null ? _settings.Allowed.Except(tools.Select(tool => tool.Name)) : [])
        {
            Log.NoSuchTool(_logger, _agent, Name, missing);
        }

        (_tools, _listedAt, _failedAt, _failure) = (tools, _time.GetTimestamp(), null, null);
        return tools;
    }

    private ToolResult TooLarge() =>
        new($"The tool's result is longer than the {_settings.ResultBytes} bytes that it may have.", Failed: true);

    // In a word: the libraries' own texts hold addresses and more.
    private static string ReasonOf(Exception e) => e switch
    {
        TimeoutException or OperationCanceledException => "it took too long",
        HttpRequestException { StatusCode: { } status } => $"status {(int)status}",
        _ when e.GetBaseException() is Win32Exception and not SocketException => "the command can't be started",
        ClientTransportClosedException { Details: StdioClientCompletionDetails { ExitCode: { } code } } =>
            $"the command ended with code {code}",
        _ => AgentFailure.WhyUnreachable(e),
    };

    private static Dictionary<string, string?> EnvironmentOf(ToolServerSettings settings, IConfiguration configuration)
    {
        var variables = new Dictionary<string, string?>(StdioClientTransportOptions.GetDefaultEnvironmentVariables());
        foreach (var name in settings.Env)
        {
            variables[name] = ToolServerSettings.ValueOf(name, configuration);
        }

        return variables;
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 25, Level = LogLevel.Warning,
            Message = "Agent {AgentType}: the tool server {Server} ({Address}) can't be reached: {Reason}")]
        public static partial void Unreachable(ILogger logger, string agentType, string server, string address, string reason);

        [LoggerMessage(EventId = 26, Level = LogLevel.Warning, Message = "Agent {AgentType}: the tool {Server}/{Tool} failed: {Reason}")]
        public static partial void Failed(ILogger logger, string agentType, string server, string tool, string reason);

        [LoggerMessage(EventId = 27, Level = LogLevel.Warning,
            Message = "Agent {AgentType}: the tool server {Server} has no tool {Tool}, which the agent is allowed to call")]
        public static partial void NoSuchTool(ILogger logger, string agentType, string server, string tool);
    }
}
