using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace Sessions.Bench.Load;

/// <summary>The workloads, as requests that are made once and sent many times.</summary>
/// <param name="sessions">How many sessions there are.</param>
internal sealed class Requests(int sessions)
{
    public const string Create = "create";
    public const string Get = "get";
    public const string Query = "query";
    public const string List = "list";
    public const string History = "history";

    /// <summary>How many turns each session has at first, and how many a page of the history has.</summary>
    public const int Turns = 20;

    private const int SessionsPerUser = 10;

    public static readonly string[] Workloads = [Create, Get, Query, List, History];

    private readonly string[] _sessions = [.. Enumerable.Range(0, sessions).Select(_ => Guid.CreateVersion7().ToString())];

    /// <summary>Digits that are replaced by a number before a request is sent.</summary>
    public static ReadOnlySpan<byte> Serial => "0000000000"u8;

    /// <summary>What the clients send our server. The sessions are divided among them: no two ask for the same one.</summary>
    public byte[][][] ToApi(string workload, int clients) => Divide(clients, session => OneToApi(workload, session));

    /// <summary>What they send to a limit: the same bodies, and on the path how many bytes are to be answered.</summary>
    public byte[][][] ToLimit(string path, string workload, int clients, int bytes) => Divide(clients, session => workload switch
    {
        Create => Post($"{path}/created/{bytes}", NewUser()),
        Query => Post($"{path}/{bytes}", NewQuery(session)),
        _ => NewGet($"{path}/{bytes}"),
    });

    /// <summary>What our server is asked for one session.</summary>
    public byte[] OneToApi(string workload, int session) => workload switch
    {
        Create => Post("/sessions", NewUser()),
        Get => NewGet($"/sessions/{_sessions[session]}"),
        Query => Post("/query", NewQuery(session)),
        List => NewGet($"/users/{User(session)}/sessions?limit={SessionsPerUser}"),
        History => NewGet($"/sessions/{_sessions[session]}/history?limit={Turns}"),
        _ => throw new ArgumentOutOfRangeException(nameof(workload)),
    };

    public static byte[] NewGet(string path) => Encoding.ASCII.GetBytes($"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");

    public static byte[] Post(string path, JsonObject body)
    {
        var json = body.ToJsonString();
        return Encoding.UTF8.GetBytes($"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + $"Content-Length: {Encoding.UTF8.GetByteCount(json)}\r\n\r\n{json}");
    }

    // A user who has no session yet: none has to make room.
    private static JsonObject NewUser() => new() { ["user_id"] = $"new-{Encoding.ASCII.GetString(Serial)}" };

    private JsonObject NewQuery(int session) => new()
    {
        ["query"] = string.Create(CultureInfo.InvariantCulture,
            $"I prefer the quiet desk number {session:D4} near the window: what do you recommend for the long afternoon?"),
        ["thread_id"] = _sessions[session],
        ["user_id"] = User(session),
    };

    private static string User(int session) => string.Create(CultureInfo.InvariantCulture, $"user-{session / SessionsPerUser:D4}");

    private byte[][][] Divide(int clients, Func<int, byte[]> request) =>
        [.. Enumerable.Range(0, clients)
            .Select(client => Enumerable.Range(0, sessions).Where(session => session % clients == client).Select(request).ToArray())];
}
