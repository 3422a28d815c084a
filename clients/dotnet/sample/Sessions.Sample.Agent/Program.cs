using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using Sessions.Client;
using Sessions.Sample.Agent;

var builder = WebApplication.CreateBuilder(args);
builder.Services.AddSessionsClient("api");
builder.Services.AddSingleton<IChatClient, LocalModel>(); // Any other will do.

var app = builder.Build();
var history = app.Services.GetRequiredService<SessionsChatHistoryProvider>();
var agent = app.Services.GetRequiredService<IChatClient>().AsAIAgent(new ChatClientAgentOptions
{
    Name = "Sample",
    ChatHistoryProvider = history,
});

app.MapPost("/chat/{id}", async (string id, Message message) =>
{
    var session = await agent.CreateSessionAsync();
    history.SetSessionId(session, id);
    try
    {
        return Results.Ok(new Message((await agent.RunAsync(message.Text, session)).Text));
    }
    catch (SessionsException e) when (e.Code == SessionsException.TurnConflict)
    {
        // Somebody else was faster, and the model has not seen what was said: it is to be asked again.
        return Results.Problem(e.Message, statusCode: StatusCodes.Status409Conflict);
    }
});
app.MapHealthChecks("/health");
app.Run();

namespace Sessions.Sample.Agent
{
    internal sealed record Message(string Text);
}
