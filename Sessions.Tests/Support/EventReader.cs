using System.Net.ServerSentEvents;
using System.Text;
using System.Text.Json.Nodes;

namespace Sessions.Tests;

/// <summary>A client that reads a streamed answer event by event.</summary>
internal sealed class EventReader : IAsyncDisposable
{
    private readonly HttpResponseMessage _response;
    private readonly IAsyncEnumerator<SseItem<string>> _events;

    private EventReader(HttpResponseMessage response, IAsyncEnumerator<SseItem<string>> events) =>
        (_response, _events) = (response, events);

    public HttpResponseMessage Response => _response;

    public static async Task<EventReader> OpenAsync(SessionsServer server, string body, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/query")
        {
            Content = new StringContent(body, Encoding.UTF8, "application/json"),
        };
        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        var response = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead,
            TestContext.Current.CancellationToken);
        var stream = await response.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken);
        return new EventReader(response, SseParser.Create(stream).EnumerateAsync(TestContext.Current.CancellationToken)
            .GetAsyncEnumerator(TestContext.Current.CancellationToken));
    }

    /// <summary>The next event; <see langword="null"/> at the end.</summary>
    public async Task<(string Name, JsonNode Data, string Id)?> NextAsync() =>
        await _events.MoveNextAsync() ? (_events.Current.EventType, JsonNode.Parse(_events.Current.Data)!, _events.Current.EventId!) : null;

    /// <summary>All events that are left.</summary>
    public async Task<List<(string Name, JsonNode Data, string Id)>> RestAsync()
    {
        List<(string, JsonNode, string)> rest = [];
        while (await NextAsync() is { } next)
        {
            rest.Add(next);
        }

        return rest;
    }

    public async ValueTask DisposeAsync()
    {
        _response.Dispose();
        try
        {
            await _events.DisposeAsync();
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or NotSupportedException)
        {
            // Hung up in the middle.
        }
    }
}
