using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using CsCheck;

namespace Sessions.Tests.Fuzz;

/// <summary>
/// What is stored near its limits: turns as large as a page, or a query, may be, in a store that they fill; and what sizes stored data
/// then must have, wherever it is told.
/// </summary>
internal static class FuzzSizes
{
    private const int PageBytes = 4 << 10;
    private const int QueryBytes = 16 << 10;
    private const int UnownedBytes = 256 << 10;
    private const int StoredBytes = 512 << 10;

    /// <summary>Limits that a short run reaches.</summary>
    public static IReadOnlyList<(string Key, string Value)> Settings { get; } =
    [
        ("limits:page_bytes", $"{PageBytes}"), ("limits:query_bytes", $"{QueryBytes}"), ("limits:unowned_bytes", $"{UnownedBytes}"),
        ("limits:stored_bytes", $"{StoredBytes}"),
    ];

    private static readonly Gen<int> Sizes = Gen.Frequency(
        (6, Gen.Int[1, 400]),
        (6, Gen.Select(Gen.OneOf(PageBytes / 4, PageBytes / 2, PageBytes, QueryBytes), Gen.Int[-1, 1], (size, more) => size + more)),
        (1, Gen.Int[PageBytes, QueryBytes]));

    /// <summary>Turns of such sizes, and pages of them.</summary>
    public static Gen<FuzzRequest> Requests { get; } = Gen.Frequency(
        (5, Gen.Select(Gen.Int[0, 7], Sizes, Ask)),
        (2, Gen.Select(Gen.Int[0, 7], Gen.Int[1, 100], Gen.Int[0, 20], (session, limit, after) =>
            FuzzRequest.From("GET", $"/sessions/s{session}/history?limit={limit}{(after == 0 ? "" : $"&after={after}")}", [], null))),
        (1, Gen.Select(Gen.Int[0, 7], Gen.Int[0, 20], (session, turn) => FuzzRequest.From(
            "POST", $"/sessions/s{session}/fork", [("Content-Type", "application/json")],
            Encoding.UTF8.GetBytes($$"""{"after_turn":{{turn}}}""")))));

    /// <summary>A session takes what its metadata, its summary and its turns take.</summary>
    public static void Check(Session session, long turns) =>
        Assert.Equal(session.Metadata.Length + (session.Summary?.Text.Length ?? 0) + turns, session.Bytes);

    /// <summary>All of them together take no more than they may.</summary>
    /// <param name="limits">The limits.</param>
    /// <param name="isMemory">Whether it is the memory store, which is bounded in all.</param>
    /// <param name="unowned">What nobody's sessions take.</param>
    /// <param name="all">What all take.</param>
    public static void Check(LimitSettings limits, bool isMemory, long unowned, long all)
    {
        Assert.InRange(unowned, 0, limits.UnownedBytes);
        Assert.InRange(all, 0, isMemory ? limits.StoredBytes : long.MaxValue);
    }

    /// <summary>Reads a list to its end. No page of it is too large, but where there is one entry on it.</summary>
    /// <param name="server">The server.</param>
    /// <param name="path">Where the list is.</param>
    /// <param name="name">What its entries are called.</param>
    /// <param name="limit">How many bytes a page may have.</param>
    /// <param name="texts">The texts of an entry, which are the least that it takes.</param>
    public static async Task<List<JsonNode>> ReadPagesAsync(
        SessionsServer server, string path, string name, int limit, Func<JsonNode, IEnumerable<JsonNode?>> texts)
    {
        List<JsonNode> all = [];
        for (string? next = ""; next is not null;)
        {
            var page = (await server.GetAsync($"{path}?limit=100{next}")).Json;
            List<JsonNode> entries = [.. page[name]!.AsArray().Select(entry => entry!)];
            var bytes = entries.SelectMany(texts).Sum(text => text is null ? 0 : Encoding.UTF8.GetByteCount((string)text!));
            Assert.True(bytes <= limit || entries.Count == 1, $"{entries.Count} entries with {bytes} bytes at {path}{next}");
            all.AddRange(entries);
            next = page["next"] is { } cursor
                ? string.Create(CultureInfo.InvariantCulture, $"&after={Uri.EscapeDataString($"{cursor}")}") : null;
        }

        return all;
    }

    private static FuzzRequest Ask(int session, int size) => FuzzRequest.From("POST", "/query", [("Content-Type", "application/json")],
        Encoding.UTF8.GetBytes($$"""{"query":"{{new string('x', size)}}","thread_id":"s{{session}}"}"""));
}
