using System.Net;
using System.Runtime.CompilerServices;
using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using Sessions.Client.Http;
using Sessions.Client.Items;

namespace Sessions.Client;

/// <summary>
/// Keeps the history of an agent of Microsoft Agent Framework as a session of the server's: durable, and erased with its user. What a run
/// brings in and what the agent makes of it, calls of tools, images and reasoning included, is one turn, appended in one step when the
/// run has succeeded; a run that fails leaves nothing.
/// </summary>
/// <remarks>
/// <para>
/// Of two runs of one conversation at once, in one process or several, the first to end is kept. The other throws a
/// <see cref="SessionsException"/> with the code <see cref="SessionsException.TurnConflict"/>, since it has not seen what was said
/// meanwhile: run it again.
/// </para>
/// <para>
/// The agent's session keeps the conversation's id alone. Serialize it, or keep the id (<see cref="GetSessionId"/>) and go on with
/// it by <see cref="SetSessionId"/>.
/// </para>
/// <para>
/// It is for models that keep no history themselves. Together with a chat client that returns a conversation's id, as
/// <see cref="SessionsChatClient"/> does, Agent Framework throws an <see cref="InvalidOperationException"/>.
/// </para>
/// </remarks>
public sealed class SessionsChatHistoryProvider : ChatHistoryProvider
{
    // How many turns a page has where all are wanted.
    private const int PageSize = 100;
    private const string AfterTurn = "sessions.after_turn";

    private readonly SessionsClient _client;
    private readonly SessionsChatHistoryProviderOptions _options;
    private readonly ProviderSessionState<ConversationReference> _state;

    // Which turn a run goes on from, by the messages that it was begun with. Those of the history tell it themselves.
    private readonly ConditionalWeakTable<ChatMessage, StrongBox<int>> _runs = [];

    // The same by the agent's session, should something in between have made other messages of all of them.
    private readonly ConditionalWeakTable<AgentSession, StrongBox<int>> _lastRead = [];
    private IReadOnlyList<string>? _stateKeys;

    /// <summary>Creates one.</summary>
    /// <param name="client">The server.</param>
    /// <param name="options">What is kept, and what of it the model is told.</param>
    public SessionsChatHistoryProvider(SessionsClient client, SessionsChatHistoryProviderOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(client);
        _client = client;
        _options = options ?? new SessionsChatHistoryProviderOptions();
        if (_options is { MaxTurns: < 1 } or { MaxItems: < 1 })
        {
            throw new ArgumentOutOfRangeException(nameof(options), "MaxTurns and MaxItems must be at least 1.");
        }

        _state = new ProviderSessionState<ConversationReference>(
            static _ => new ConversationReference(NewSessionId()), _options.StateKey, SessionsJson.Default.Options);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<string> StateKeys => _stateKeys ??= [_options.StateKey];

    /// <summary>The id of the server's session that is the conversation of an agent's session.</summary>
    public string GetSessionId(AgentSession session)
    {
        ArgumentNullException.ThrowIfNull(session);
        return _state.GetOrInitializeState(session).SessionId;
    }

    /// <summary>Makes an agent's session go on with a conversation, or begin one of that id.</summary>
    /// <param name="session">The agent's session.</param>
    /// <param name="sessionId">The id of the server's session.</param>
    /// <param name="userId">Whose it is; <see cref="SessionsChatHistoryProviderOptions.UserId"/> where it is absent.</param>
    public void SetSessionId(AgentSession session, string sessionId, string? userId = null)
    {
        ArgumentNullException.ThrowIfNull(session);
        ArgumentException.ThrowIfNullOrEmpty(sessionId);
        _state.SaveState(session, new ConversationReference(sessionId, userId));
    }

    /// <inheritdoc/>
    protected override async ValueTask<IEnumerable<ChatMessage>> InvokingCoreAsync(InvokingContext context,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        var request = context.RequestMessages as IReadOnlyCollection<ChatMessage> ?? [.. context.RequestMessages];
        var (history, lastTurn) = await ReadAsync(ConversationOf(context.Session), cancellationToken).ConfigureAwait(false);
        _lastRead.AddOrUpdate(context.Session!, new StrongBox<int>(lastTurn));
        foreach (var message in request)
        {
            // The same message in two runs at once: what the earlier has seen holds for both, so that neither is appended unseen.
            var seen = _runs.GetValue(message, _ => new StrongBox<int>(lastTurn));
            seen.Value = Math.Min(seen.Value, lastTurn);
        }

        return
        [
            .. OpenCalls.Remove(history, request).Select(message => Attribute(message, lastTurn)),
            .. request,
        ];
    }

    /// <inheritdoc/>
    protected override async ValueTask InvokedCoreAsync(InvokedContext context, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        List<ChatMessage> told = [.. context.RequestMessages];
        var conversation = ConversationOf(context.Session);
        var lastTurn = LastTurnOf(told) ?? (_lastRead.TryGetValue(context.Session!, out var read) ? read.Value : null);
        foreach (var message in told)
        {
            _runs.Remove(message);
        }

        if (context.InvokeException is not null)
        {
            return;
        }

        IEnumerable<ChatMessage> request = told.Where(message =>
            message.GetAgentRequestMessageSourceType() != AgentRequestMessageSourceType.ChatHistory);
        var input = ItemWriter.Write(_options.RequestMessageFilter?.Invoke(request) ?? request);
        var response = context.ResponseMessages ?? [];
        var output = ItemWriter.Write(_options.ResponseMessageFilter?.Invoke(response) ?? response);
        if (input.Count == 0 && output.Count == 0)
        {
            return;
        }

        await _client.AppendTurnAsync(conversation.SessionId, new NewTurn
        {
            Input = input,
            Output = output,
            AgentType = _options.AgentType ?? (context.Agent.Name is { Length: > 0 and <= 128 } name ? name : null),
            ExpectedTurn = lastTurn + 1,
            UserId = conversation.UserId,
        }, cancellationToken).ConfigureAwait(false);
    }

    private static string NewSessionId() => Guid.NewGuid().ToString();

    // The least of what is told: whatever has changed since then was not seen by the model.
    private int? LastTurnOf(List<ChatMessage> messages)
    {
        int? last = null;
        foreach (var message in messages)
        {
            var seen = message.AdditionalProperties?.TryGetValue(AfterTurn, out int turn) == true ? turn
                : _runs.TryGetValue(message, out var begun) ? begun.Value
                : (int?)null;
            last = seen is null || seen > last ? last : seen;
        }

        return last;
    }

    private ChatMessage Attribute(ChatMessage message, int lastTurn)
    {
        message = message.WithAgentRequestMessageSource(AgentRequestMessageSourceType.ChatHistory, GetType().FullName!);
        (message.AdditionalProperties ??= [])[AfterTurn] = lastTurn;
        return message;
    }

    private ConversationReference ConversationOf(AgentSession? session)
    {
        if (session is null)
        {
            throw new InvalidOperationException("A conversation is kept for a session of the agent's: there is none.");
        }

        var conversation = _state.GetOrInitializeState(session);
        return conversation with { UserId = conversation.UserId ?? _options.UserId };
    }

    // Also a session without turns is there from now on: a run on somebody else's is refused before the model is asked.
    private async Task<(IReadOnlyList<ChatMessage> Messages, int LastTurn)> ReadAsync(ConversationReference conversation,
        CancellationToken cancellationToken)
    {
        if (await TryReadAsync(conversation, cancellationToken).ConfigureAwait(false) is { } found)
        {
            return found;
        }

        try
        {
            var options = new CreateSessionOptions { SessionId = conversation.SessionId, UserId = conversation.UserId };
            await _client.CreateSessionAsync(options, cancellationToken).ConfigureAwait(false);
            return ([], 0);
        }
        catch (SessionsException e) when (e.Code == "session_exists")
        {
            // Made by another run in this moment, or not ours.
            return await TryReadAsync(conversation, cancellationToken).ConfigureAwait(false)
                ?? throw new SessionsException(SessionsException.SessionNotFound,
                    $"There is no session '{conversation.SessionId}', or it belongs to somebody else.", e)
                {
                    Status = HttpStatusCode.NotFound,
                };
        }
    }

    private async Task<(IReadOnlyList<ChatMessage> Messages, int LastTurn)?> TryReadAsync(ConversationReference conversation,
        CancellationToken cancellationToken)
    {
        List<Turn> turns = [];
        var items = 0;
        try
        {
            string? after = null;
            do
            {
                var limit = Math.Clamp(_options.MaxTurns - turns.Count ?? PageSize, 1, PageSize);
                int? tip = turns.Count > 0 ? turns[0].Number : null;
                var page = await _client.ReadHistoryAsync(
                    conversation.SessionId, conversation.UserId, includeItems: true, newestFirst: true, tip, limit, after,
                    cancellationToken)
                    .ConfigureAwait(false);
                foreach (var turn in page.Turns)
                {
                    items += (turn.Input?.Count ?? 0) + (turn.Output?.Count ?? 0);
                    if (turns.Count > 0 && (items > _options.MaxItems || turns.Count == _options.MaxTurns))
                    {
                        return (Messages(turns), turns[0].Number);
                    }

                    turns.Add(turn);
                }

                after = page.HasMore ? page.Next : null;
            }
            while (after is not null && (_options.MaxTurns is null || turns.Count < _options.MaxTurns));
        }
        catch (SessionsException e) when (e is { Status: HttpStatusCode.NotFound, Code: SessionsException.SessionNotFound })
        {
            // Not there, or deleted between two pages.
            return null;
        }

        return (Messages(turns), turns.Count > 0 ? turns[0].Number : 0);
    }

    private static List<ChatMessage> Messages(List<Turn> newestFirst) =>
        [.. Enumerable.Reverse(newestFirst).SelectMany(turn =>
            ItemReader.Read([.. turn.Input ?? [], .. turn.Output ?? []], turn.CreatedAt))];
}
