using System.Collections.Frozen;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Microsoft.Extensions.AI;

namespace Sessions.Api.Engine.Agents.Tools;

/// <summary>
/// The tools of one turn. The model's calls of the server's own tools are run here, one after the other, and become items of the answer as
/// they run; those of the client's functions are the client's, and end the answer once the others have run.
/// </summary>
/// <param name="request">What the agent is asked.</param>
/// <param name="output">The answer.</param>
/// <param name="offered">The server's own tools, by the names that the model calls them by.</param>
internal sealed class ToolRun(AgentRequest request, OutputBuilder output, FrozenDictionary<string, OfferedTool> offered)
{
    private readonly HashSet<string> _functions = [.. request.Options.Tools.Select(tool => tool.Name)];
    private readonly List<AIContent> _held = [];
    private readonly Dictionary<int, bool> _pieces = [];
    private bool _hasOwnCalls;
    private bool _hasClientCalls;
    private int _calls;

    /// <summary>Whether a tool was called.</summary>
    public bool HasCalls => _calls > 0;

    /// <summary>The tools as functions that the library runs.</summary>
    public IEnumerable<AIFunction> Functions => offered.Values.Select(tool => new ServerTool(tool, this));

    /// <summary>Another answer of the model's begins.</summary>
    /// <returns>Whether it is not to be asked any more, because what is left to be done is the client's.</returns>
    public bool EndsBeforeNextRound()
    {
        _held.ForEach(output.Add);
        _held.Clear();
        _pieces.Clear();
        _hasOwnCalls = false;
        return _hasClientCalls;
    }

    /// <summary>Takes what the model says.</summary>
    /// <returns>Whether the library that runs the functions is to see it.</returns>
    public bool Take(AIContent content)
    {
        switch (content)
        {
            case CallPieceContent piece:
                if (piece.Name is { } begun)
                {
                    _pieces[piece.Index] = IsClients(begun);
                }

                if (_pieces.GetValueOrDefault(piece.Index))
                {
                    TellClients(piece);
                }

                return false;
            case FunctionCallContent call:
                if (!IsClients(call.Name))
                {
                    return true;
                }

                TellClients(call);
                return false;
            default:
                output.Add(content);
                return true;
        }
    }

    /// <summary>Runs a tool.</summary>
    /// <returns>What the model is told of it.</returns>
    public async ValueTask<string> RunAsync(OfferedTool tool, FunctionCallContent call, CancellationToken cancellationToken)
    {
        var text = call.RawRepresentation is CallArguments given ? given.Text : CallJson.Write(call.Arguments);
        var arguments = string.IsNullOrWhiteSpace(text) ? [] : CallArguments.Parse(text);
        output.BeginTool(tool.Server.Name, tool.Name, text);
        output.Flush();
        var result = arguments is null ? new ToolResult("The arguments are not a JSON object.", Failed: true)
            : _calls == request.Options.MaxToolCalls
                ? new ToolResult("The tool was not called: as many calls as max_tool_calls allows were made.", Failed: true)
            : await CallAsync(tool, arguments, cancellationToken);
        result = output.EndTool(result);
        output.Flush();
        return result.Failed ? $"Error: {result.Text}" : result.Text;
    }

    private ValueTask<ToolResult> CallAsync(OfferedTool tool, Dictionary<string, object?> arguments, CancellationToken cancellationToken)
    {
        _calls++;
        request.OnToolCall?.Invoke();
        return tool.Server.CallAsync(tool.Tool, arguments, cancellationToken);
    }

    // A name that is nobody's is no client's either: the model is told that there is no such function.
    private bool IsClients(string name)
    {
        if (_functions.Contains(name))
        {
            _hasClientCalls = true;
            return true;
        }

        _hasOwnCalls = true;
        return false;
    }

    // Items come one after the other: what stands behind a call that is yet to be run waits for it.
    private void TellClients(AIContent content)
    {
        if (_hasOwnCalls)
        {
            _held.Add(content);
        }
        else
        {
            output.Add(content);
        }
    }

    /// <summary>A tool as a function that the library runs.</summary>
    private sealed class ServerTool(OfferedTool tool, ToolRun run) : AIFunction
    {
        public override string Name => tool.Name;

        public override string Description => tool.Tool.Description;

        public override JsonElement JsonSchema => tool.Tool.JsonSchema;

        protected override async ValueTask<object?> InvokeCoreAsync(AIFunctionArguments arguments, CancellationToken cancellationToken) =>
            await run.RunAsync(tool, FunctionInvokingChatClient.CurrentContext!.CallContent, cancellationToken);
    }
}

/// <summary>
/// Stands between the model and the library that runs functions: gives the turn what the model says as it comes, and the library only
/// what it is to run.
/// </summary>
internal sealed class ToolRoundsClient(IChatClient inner) : DelegatingChatClient(inner)
{
    public override async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        var call = AgentCall.Current!;
        if (call.Tools!.EndsBeforeNextRound())
        {
            return new ChatResponse([]);
        }

        call.BeginRound();
        var response = await base.GetResponseAsync(messages, options, cancellationToken);
        foreach (var message in response.Messages)
        {
            message.Contents = [.. message.Contents.Where(call.Tools.Take)];
        }

        return response;
    }

    public override async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages,
        ChatOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        var call = AgentCall.Current!;
        if (call.Tools!.EndsBeforeNextRound())
        {
            yield break;
        }

        call.BeginRound();
        await foreach (var update in base.GetStreamingResponseAsync(messages, options, cancellationToken))
        {
            update.Contents = [.. update.Contents.Where(call.Tools.Take)];
            yield return update;
        }
    }
}
