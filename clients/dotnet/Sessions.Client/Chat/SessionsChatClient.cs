using System.Net;
using System.Net.ServerSentEvents;
using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;
using Sessions.Client.Chat;
using Sessions.Client.Http;

namespace Sessions.Client;

/// <summary>
/// The server's agents as an <see cref="IChatClient"/>. The conversation is the server's: its id is the
/// <see cref="ChatOptions.ConversationId"/>, and only what is new is sent. Without one a session is created, and the answer says its id.
/// </summary>
/// <remarks>
/// Functions among the tools are called by the client's own pipeline (<c>UseFunctionInvocation</c>, or Agent Framework), on this side.
/// What goes wrong is a <see cref="SessionsException"/> with the server's code; so is an answer that breaks off. Of the options,
/// <see cref="ChatOptions.TopK"/>, <see cref="ChatOptions.Seed"/>, <see cref="ChatOptions.StopSequences"/> and the penalties are not
/// passed on, as the wire has no place for them.
/// </remarks>
public sealed class SessionsChatClient : IChatClient
{
    private readonly SessionsClient _client;
    private readonly SessionsChatClientOptions _options;

    /// <summary>Creates one.</summary>
    /// <param name="client">The server.</param>
    /// <param name="options">Which agent is asked, and for whom.</param>
    public SessionsChatClient(SessionsClient client, SessionsChatClientOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(client);
        _client = client;
        _options = options ?? new SessionsChatClientOptions();
    }

    /// <inheritdoc/>
    public async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        var (conversation, request) = await RequestAsync(messages, options, stream: false, cancellationToken).ConfigureAwait(false);
        using var activity = SessionsClient.Start("create_response", conversation);
        try
        {
            var response = await _client.Transport.SendAsync(request, SessionsJson.Default.JsonElement, cancellationToken)
                .ConfigureAwait(false);
            return ResponseReader.Read(response, conversation);
        }
        catch (SessionsException e)
        {
            var failure = Name(e, conversation);
            SessionsClient.Fail(activity, failure);
            throw failure;
        }
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        var (conversation, request) = await RequestAsync(messages, options, stream: true, cancellationToken).ConfigureAwait(false);
        using var activity = SessionsClient.Start("create_response", conversation);
        HttpResponseMessage response;
        try
        {
            response = await _client.Transport.SendAsync(request, cancellationToken).ConfigureAwait(false);
        }
        catch (SessionsException e)
        {
            var failure = Name(e, conversation);
            SessionsClient.Fail(activity, failure);
            throw failure;
        }

        using (response)
        {
            using var stream = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            var reader = new ResponseReader(conversation);
            var isLast = false;
            await using var events = SseParser.Create(stream).EnumerateAsync(cancellationToken).GetAsyncEnumerator(cancellationToken);
            while (!isLast)
            {
                List<ChatResponseUpdate> updates;
                try
                {
                    if (!await events.MoveNextAsync().ConfigureAwait(false))
                    {
                        throw SessionsTransport.BrokenOff(null);
                    }

                    using var data = JsonDocument.Parse(events.Current.Data);
                    updates = [.. reader.Read(events.Current.EventType, data.RootElement.Clone(), out isLast)];
                }
                catch (SessionsException e)
                {
                    SessionsClient.Fail(activity, e);
                    throw;
                }
                catch (Exception e) when (e is JsonException or KeyNotFoundException
                    || SessionsTransport.IsUnreachable(e, cancellationToken))
                {
                    var failure = e is JsonException or KeyNotFoundException ? SessionsTransport.NotUnderstood(e)
                        : SessionsTransport.BrokenOff(e);
                    SessionsClient.Fail(activity, failure);
                    throw failure;
                }

                foreach (var update in updates)
                {
                    yield return update;
                }
            }
        }
    }

    /// <inheritdoc/>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(ChatClientMetadata) ? new ChatClientMetadata("sessions", defaultModelId: _options.AgentType)
            : serviceType.IsInstanceOfType(this) ? this
            : serviceType.IsInstanceOfType(_client) ? _client
            : null;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // The HTTP client is not ours.
    }

    private async Task<(string Conversation, HttpRequestMessage Request)> RequestAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options, bool stream, CancellationToken cancellationToken)
    {
        var key = options?.AdditionalProperties?.TryGetValue(SessionsChatOptionsExtensions.IdempotencyKey, out string? given) == true
            && given is not null
            ? given : SessionsTransport.NewKey();
        var raw = options?.RawRepresentationFactory?.Invoke(this) as JsonObject;
        var conversation = options?.ConversationId ?? (await _client.CreateSessionAsync(
            new CreateSessionOptions { UserId = _options.UserId, IdempotencyKey = key }, cancellationToken).ConfigureAwait(false))
                .SessionId;
        var body = ResponseRequest.Create(messages, options, raw, _options.AgentType, conversation, stream);

        // One call of an agent's may be several requests, between which tools run: each has a key of its own.
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(body.ToJsonString()));
        return (conversation, SessionsTransport.Request(
            HttpMethod.Post, _options.UserId is null ? "v1/responses" : $"v1/responses?user_id={Uri.EscapeDataString(_options.UserId)}",
            body, SessionsJson.Default.JsonObject, $"{key}-{Convert.ToHexString(hash.AsSpan(0, 8))}"));
    }

    // Where the conversation is not there, OpenAI's wire has no code for it.
    private static SessionsException Name(SessionsException e, string conversation) =>
        e is { Status: HttpStatusCode.NotFound, Code: "not_found" }
        ? new SessionsException(SessionsException.SessionNotFound,
            $"There is no session '{conversation}', or it belongs to somebody else.", e)
        {
            Status = e.Status,
            RequestId = e.RequestId,
        }
        : e;
}
